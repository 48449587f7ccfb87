"""Published cross encoders' folders in both libraries: the same scores and settings, the same folder saved again."""

import json

import numpy as np
import pytest
import torch
from tests.parity.published import assert_same_files, loaded_in_silence, write
from tests.parity.published_cross import ROWS
from tests.tolerances import BFLOAT, PACKED

from fourfold import CrossEncoder

PAIRS = [
    ("the query", "a document"),
    ("the query", "the long document text of the world, " * 9),
    ("short", "x"),
    ("a query of the world that is long " * 4, "a document"),
    ("a query of the world that is long " * 4, "the text"),
    ("an ünïcödé query", "with … odd 漢字 and 🙂 signs"),
]
NEAR = {torch.float32: PACKED, torch.bfloat16: 4 * BFLOAT}


@pytest.fixture(params=ROWS)
def name(request):
    return request.param


@pytest.fixture
def row(name):
    return ROWS[name]


@pytest.fixture
def folder(row, tmp_path):
    path = tmp_path / "published"
    write(row, path)
    return path


def load(cls, folder):
    torch.manual_seed(0)  # for heads that a folder lacks
    return cls(str(folder), device="cpu")


def agree(row, ours, theirs):
    near = NEAR[row.dtype]
    for options in ({}, {"activation_fn": torch.nn.Identity()}, {"apply_softmax": True}):
        got, wanted = ours.predict(PAIRS, **options), theirs.predict(PAIRS, **options)
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        scale = max(1.0, float(np.abs(wanted).max()))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=near * scale, err_msg=str(options))
    if ours.num_labels == 1 and row.dtype == torch.float32:
        documents = [document for _, document in PAIRS]
        orders = [[hit["corpus_id"] for hit in model.rank("the query", documents)] for model in (ours, theirs)]
        assert orders[0] == orders[1]


def test_both_libraries_agree(st, name, row, folder):
    ours, theirs = load(CrossEncoder, folder), load(st.CrossEncoder, folder)
    assert [name for name, _ in ours.named_children()] == [name for name, _ in theirs.named_children()]
    if name == "a dense model":  # its head is new, and drawn by each library in its own order
        ours.load_state_dict(theirs.state_dict())
    agree(row, ours, theirs)
    assert (ours.prompts, ours.default_prompt_name) == (theirs.prompts, theirs.default_prompt_name)
    assert type(ours.activation_fn) is type(theirs.activation_fn)
    assert ours.num_labels == theirs.num_labels
    assert ours.max_seq_length == theirs.max_seq_length
    assert ours.modalities == theirs.modalities
    assert ours.config.id2label == theirs.config.id2label
    assert set(ours.get_model_kwargs()) == set(theirs.get_model_kwargs())
    assert ours.dtype == theirs.dtype
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }


def settings(file):
    """Return what a JSON file holds; how its tokenizer was once loaded is no setting of a model."""
    found = json.loads(file.read_text())
    leave_out = ("is_local", "local_files_only", "__version__", "transformers_version")
    return {k: found[k] for k in found if k not in leave_out} if type(found) is dict else found


def test_a_folder_saved_again_is_the_newest_layout_and_loads_there_without_a_warning(
    st, name, row, folder, tmp_path, caplog
):
    ours, theirs = load(CrossEncoder, folder), load(st.CrossEncoder, folder)
    if name == "a dense model":
        ours.load_state_dict(theirs.state_dict())
    ours.save(str(tmp_path / "ours"), create_model_card=False)
    theirs.save(str(tmp_path / "theirs"), create_model_card=False)
    assert_same_files(tmp_path / "ours", tmp_path / "theirs", settings)
    back = loaded_in_silence(lambda: load(st.CrossEncoder, tmp_path / "ours"), caplog)
    agree(row, load(CrossEncoder, tmp_path / "ours"), back)
    agree(row, ours, back)


def test_there_are_at_least_twenty():
    assert len(ROWS) >= 20
