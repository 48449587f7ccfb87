"""Published models' folders in both libraries: the same vectors, the same settings, the same folder saved again."""

import json

import numpy as np
import pytest
import torch
from tests.parity.published import ROWS, assert_same_files, dense, loaded_in_silence, write, write_part
from tests.support import TEXTS
from tests.tolerances import BFLOAT, HALF, PACKED

from fourfold import SentenceTransformer
from fourfold.testing import WIDTH

CALLS = {
    "encode": lambda m: m.encode(TEXTS),
    "encode_query": lambda m: m.encode_query(TEXTS),
    "encode_document": lambda m: m.encode_document(TEXTS),
    "tokens": lambda m: m.encode(TEXTS[0], output_value=None)["sentence_embedding"].float().cpu().numpy(),
}
NEAR = {torch.float32: PACKED, torch.float16: HALF, torch.bfloat16: BFLOAT}


@pytest.fixture(autouse=True)
def _code_of_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture(params=ROWS)
def row(request):
    return ROWS[request.param]


@pytest.fixture
def folder(row, tmp_path):
    path = tmp_path / "published"
    write(row, path)
    # An Asym module keeps its parts in folders of their own.
    for i, inside in enumerate(sorted(path.glob("2_Asym/*Dense"))):
        write_part(inside, dense("", WIDTH, 8, pickled=True), seed=10 + i)
    return path


def load(cls, folder, row):
    return cls(str(folder), device="cpu", **({"trust_remote_code": True} if row.trust else {}))


def agree(row, ours, theirs):
    for name, call in {**CALLS, **row.encodes}.items():
        got, wanted = call(ours), call(theirs)
        assert got.shape == wanted.shape, name
        assert got.dtype == wanted.dtype, name
        scale = max(1.0, float(np.abs(wanted.astype(np.float32)).max()))
        np.testing.assert_allclose(
            got.astype(np.float32), wanted.astype(np.float32), rtol=0, atol=NEAR[row.dtype] * scale, err_msg=name
        )


def test_both_libraries_agree(st, row, folder):
    ours, theirs = load(SentenceTransformer, folder, row), load(st.SentenceTransformer, folder, row)
    agree(row, ours, theirs)
    assert (ours.prompts, ours.default_prompt_name) == (theirs.prompts, theirs.default_prompt_name)
    assert ours.similarity_fn_name == theirs.similarity_fn_name
    assert ours.max_seq_length == theirs.max_seq_length
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension()
    assert [name for name, _ in ours.named_children()] == [name for name, _ in theirs.named_children()]
    assert ours.modalities == theirs.modalities
    assert set(ours.get_model_kwargs()) == set(theirs.get_model_kwargs())
    assert ours.dtype == theirs.dtype
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }


def in_order(settings):
    """Return settings with the stop words sorted: they are a set, which the older library writes as it comes."""
    if isinstance(settings, dict) and "stop_words" in settings:
        return {**settings, "stop_words": sorted(settings["stop_words"])}
    return settings


def test_a_folder_saved_again_is_the_newest_layout_and_loads_there_without_a_warning(st, row, folder, tmp_path, caplog):
    ours, theirs = load(SentenceTransformer, folder, row), load(st.SentenceTransformer, folder, row)
    ours.save(str(tmp_path / "ours"))
    theirs.save(str(tmp_path / "theirs"))
    assert_same_files(tmp_path / "ours", tmp_path / "theirs", lambda file: in_order(json.loads(file.read_text())))
    back = loaded_in_silence(lambda: load(st.SentenceTransformer, tmp_path / "ours", row), caplog)
    agree(row, load(SentenceTransformer, tmp_path / "ours", row), back)
    agree(row, ours, back)


def test_there_are_at_least_twenty():
    assert len(ROWS) >= 20
