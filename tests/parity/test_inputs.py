"""What counts as one input, what as a batch, and what is refused: the same as in the older library."""

import collections

import numpy as np
import pytest
import torch
from tests.tolerances import PACKED

from fourfold import SentenceTransformer
from fourfold.testing import tiny_folder

MESSAGE = {"role": "user", "content": "a"}


def column():
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict({"text": ["a", "the text"]})["text"]


def series():
    return pytest.importorskip("pandas").Series(["a", "b"])


def image():
    return pytest.importorskip("PIL.Image").new("RGB", (4, 4))


# Made anew for each model, since some can be read only once.
INPUTS = {
    "text": lambda: "a text",
    "empty text": lambda: "",
    "list": lambda: ["a", "b"],
    "tuple of two": lambda: ("a", "b"),
    "tuple of one": lambda: ("a",),
    "column": column,
    "array": lambda: np.array(["a", "b"]),
    "array of objects": lambda: np.array(["a", "b"], dtype=object),
    "array of rows": lambda: np.array([["a", "b"], ["c", "d"]]),
    "array of dictionaries": lambda: np.array([{"text": "a"}], dtype=object),
    "array of no dimension": lambda: np.array("x"),
    "array of numbers": lambda: np.array([1.0, 2.0]),
    "empty array of numbers": lambda: np.array([]),
    "array of bytes": lambda: np.array([b"a"]),
    "numpy string": lambda: np.str_("a"),
    "tensor": lambda: torch.ones(3),
    "series": series,
    "generator": lambda: (text for text in "ab"),
    "iterator": lambda: iter(["a"]),
    "set": lambda: {"a"},
    "deque": lambda: collections.deque(["a"]),
    "range": lambda: range(3),
    "nothing": lambda: None,
    "number": lambda: 3,
    "bytes": lambda: b"a",
    "dictionary": lambda: {"text": "a"},
    "dictionaries": lambda: [{"text": "a"}, {"text": "b"}],
    "empty dictionary": dict,
    "dictionary with another key": lambda: {"text": "a", "x": 1},
    "dictionary of a number": lambda: {"text": 3},
    "dictionary of a pair": lambda: [{"text": ("a", "b")}],
    "pairs": lambda: [("a", "b"), ["c", "d"]],
    "tuple of pairs": lambda: (("a", "b"), ("c", "d")),
    "pair of arrays": lambda: [np.array(["a", "b"])],
    "pair with nothing": lambda: [("a", None)],
    "three": lambda: [["a", "b", "c"]],
    "empty list within": lambda: [[]],
    "list with nothing": lambda: ["a", None],
    "message": lambda: [MESSAGE],
    "messages": lambda: [[MESSAGE]],
    "tuple of a message": lambda: (MESSAGE,),
    "image": image,
    "images": lambda: [image()],
}


@pytest.fixture(scope="module")
def pair(st):
    folder = str(tiny_folder("dense", "bert"))
    return [cls(folder, device="cpu") for cls in (SentenceTransformer, st.SentenceTransformer)]


@pytest.mark.parametrize("name", INPUTS)
def test_inputs(pair, name):
    results = []
    for model in pair:
        try:
            results.append(model.encode(INPUTS[name]()))
        except Exception as error:
            results.append(error)
    ours, theirs = results
    if isinstance(theirs, Exception):
        assert isinstance(ours, type(theirs))
    else:
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, atol=PACKED)
    assert pair[0].is_singular_input(INPUTS[name]()) == pair[1].is_singular_input(INPUTS[name]())
