"""Published sparse models' folders in both libraries: the same rows, the same settings, the same folder saved again."""

import json

import numpy as np
import pytest
import torch
from tests.parity.published import assert_same_files, loaded_in_silence, write
from tests.parity.published_sparse import IDF, QUERY, ROWS
from tests.support import TEXTS
from tests.tolerances import BFLOAT, PACKED

from fourfold import SparseEncoder

CALLS = {
    "encode": lambda m: m.encode(TEXTS),
    "encode_query": lambda m: m.encode_query(TEXTS),
    "encode_document": lambda m: m.encode_document(TEXTS),
    "dense": lambda m: m.encode(TEXTS, convert_to_sparse_tensor=False),
}
NEAR = {torch.float32: PACKED, torch.bfloat16: BFLOAT}


@pytest.fixture(params=ROWS)
def row(request):
    return ROWS[request.param]


@pytest.fixture
def folder(row, tmp_path, monkeypatch):
    path = tmp_path / "published"
    write(row, path)
    monkeypatch.chdir(path)  # where the older library looks for a file of weights that a folder names
    return path


def load(cls, folder):
    return cls(str(folder), device="cpu")


def dense(rows):
    return (rows.to_dense() if rows.is_sparse else rows).float().numpy()


def agree(row, ours, theirs):
    for name, call in {**CALLS, **row.encodes}.items():
        got, wanted = call(ours), call(theirs)
        assert (got.layout, got.shape, got.dtype) == (wanted.layout, wanted.shape, wanted.dtype), name
        scale = max(1.0, float(np.abs(dense(wanted)).max()))
        np.testing.assert_allclose(dense(got), dense(wanted), rtol=0, atol=NEAR[row.dtype] * scale, err_msg=name)
    queries, documents = ours.encode_query(TEXTS), ours.encode_document(TEXTS)
    wanted = theirs.similarity(theirs.encode_query(TEXTS), theirs.encode_document(TEXTS)).float().numpy()
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(
        ours.similarity(queries, documents).float().numpy(), wanted, rtol=0, atol=NEAR[row.dtype] * scale
    )


def test_both_libraries_agree(st, row, folder):
    ours, theirs = load(SparseEncoder, folder), load(st.SparseEncoder, folder)
    assert [name for name, _ in ours.named_children()] == [name for name, _ in theirs.named_children()]
    agree(row, ours, theirs)
    assert (ours.prompts, ours.default_prompt_name) == (theirs.prompts, theirs.default_prompt_name)
    assert ours.similarity_fn_name == theirs.similarity_fn_name
    assert ours.max_active_dims == theirs.max_active_dims
    assert ours.max_seq_length == theirs.max_seq_length
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension()
    assert ours.modalities == theirs.modalities
    assert set(ours.get_model_kwargs()) == set(theirs.get_model_kwargs())
    assert ours.dtype == theirs.dtype
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }


def settings(file):
    """Return what a JSON file holds; how its tokenizer was once loaded is no setting of a model."""
    found = json.loads(file.read_text())
    return {k: found[k] for k in found if k not in ("is_local", "local_files_only")} if type(found) is dict else found


def test_a_folder_saved_again_is_the_newest_layout_and_loads_there_without_a_warning(st, row, folder, tmp_path, caplog):
    ours, theirs = load(SparseEncoder, folder), load(st.SparseEncoder, folder)
    ours.save(str(tmp_path / "ours"), create_model_card=False)
    theirs.save(str(tmp_path / "theirs"), create_model_card=False)
    assert_same_files(tmp_path / "ours", tmp_path / "theirs", settings)
    back = loaded_in_silence(lambda: load(st.SparseEncoder, tmp_path / "ours"), caplog)
    agree(row, load(SparseEncoder, tmp_path / "ours"), back)
    agree(row, ours, back)


def test_a_file_of_weights_is_found_beside_the_settings_and_in_the_models_folder(tmp_path):
    row = ROWS["opensearch-project/opensearch-neural-sparse-encoding-multilingual-v1"]
    write(row, tmp_path / "model")
    wanted = {"the": IDF["the"], "text": IDF["text"]}
    for _ in range(2):
        model = load(SparseEncoder, tmp_path / "model")
        assert dict(model.decode(model.encode_query("the text 漢"))) == wanted
        (tmp_path / "model" / QUERY).joinpath("idf.json").write_text(json.dumps({**IDF, "text": 7.0, "no token": 9.0}))
        wanted["text"] = 7.0


def test_there_are_at_least_twenty():
    assert len(ROWS) >= 20
