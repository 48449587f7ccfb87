"""The columns of a batch as one packed forward."""

import pytest
import torch
from tests.support import needs_packing
from tests.tolerances import PACKED

from fourfold.losses._columns import column_merging_disabled, embed_columns, merged
from fourfold.losses._rows import rows_of, take_rows, token_counts, token_rows
from fourfold.testing import tiny

COLUMNS = [["the query", "a text"], ["the long text of the world " * 5, "x"], ["short", "another text"]]


@pytest.fixture(scope="module")
def model():
    return tiny().eval()


def features(model, prepare="batch_features", columns=COLUMNS):
    return [getattr(model, prepare)(column) for column in columns]


def counted(monkeypatch, model):
    calls, real = [], model.forward
    monkeypatch.setattr(model, "forward", lambda *args, **kwargs: calls.append(1) or real(*args, **kwargs))
    return calls


@needs_packing
def test_packed_columns_are_one_forward(model, monkeypatch):
    apart = [model(dict(column))["sentence_embedding"] for column in features(model)]
    calls = counted(monkeypatch, model)
    together = embed_columns(model, features(model))
    assert len(calls) == 1
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=PACKED)
    with column_merging_disabled():
        embed_columns(model, features(model))
    assert len(calls) == 4


@needs_packing
def test_columns_that_differ_in_more_than_their_texts_run_apart(model, monkeypatch):
    calls = counted(monkeypatch, model)
    embed_columns(model, features(model, "preprocess"))
    assert len(calls) == 3
    first, *others = features(model)
    assert merged([first, *others]) is not None
    assert merged([{**first, "prompt_length": 3}, *others]) is None
    assert merged([{**first, "prompt_length": 3}, *({**other, "prompt_length": 4} for other in others)]) is None
    assert merged([{**first, "prompt_length": 3}, *({**other, "prompt_length": 3} for other in others)]) is not None
    assert merged([{**column, "extra": torch.zeros(2)} for column in (first, *others)]) is None


def test_features_stay_as_they_are(model):
    given = features(model)
    before = [dict(column) for column in given]
    embed_columns(model, given)
    assert [column.keys() for column in given] == [column.keys() for column in before]
    assert all(column[key] is before[i][key] for i, column in enumerate(given) for key in column)


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "static"])
@pytest.mark.parametrize("prepare", ["batch_features", "preprocess"])
def test_rows_of_a_column(architecture, prepare):
    model = tiny("dense", architecture).eval()
    texts = ["the query", "a long text of the world " * 4, "short", "x y"]
    column = getattr(model, prepare)(texts)
    assert rows_of(column) == 4
    tokens = token_rows(column)
    alone = [token_rows(model.preprocess([text]))[0] for text in texts]
    assert all(torch.equal(one, other) for one, other in zip(tokens, alone, strict=True))
    if architecture == "static":
        assert token_counts(column) is None
        return
    assert token_counts(column).tolist() == [len(row) for row in tokens]
    whole = model(dict(column))["sentence_embedding"]
    for start, stop in ((0, 2), (1, 4), (2, 4), (3, 4)):
        part = take_rows(column, start, stop)
        assert rows_of(part) == stop - start
        torch.testing.assert_close(model(part)["sentence_embedding"], whole[start:stop], rtol=0, atol=PACKED)
    assert max(take_rows(column, 2, 4)["input_ids"].shape) < max(column["input_ids"].shape)
