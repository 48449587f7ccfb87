"""Batches of rows beside the older library's: the same keys, features, labels, prompts and routes."""

import logging

import numpy as np
import pytest
import torch
from tests.support import named

from fourfold import CrossEncoder, SentenceTransformer
from fourfold.testing import tiny_folder
from fourfold.training import collator as ours

TEXTS = ["the query", "a longer text of the world", "x"]
TRIPLE = [{"anchor": text, "positive": text * 2, "negative": "no", "label": i} for i, text in enumerate(TEXTS)]
SCORED = [{"sentence_0": text, "sentence_1": "b", "score": i / 2} for i, text in enumerate(TEXTS)]
VECTORS = [{"text": text, "labels": [1.0, 2.0, i]} for i, text in enumerate(TEXTS)]
TENSORS = [{"text": text, "label": torch.tensor([i, 2])} for i, text in enumerate(TEXTS)]
NAMED = [{**row, "dataset_name": "first"} for row in SCORED]
CASES = [
    (TRIPLE, {}),
    (SCORED, {}),
    (VECTORS, {}),
    (TENSORS, {}),
    ([{"text": text, "score": "a text", "label": 1} for text in TEXTS], {}),
    (SCORED, {"prompts": "the query: "}),
    (SCORED, {"prompts": {"sentence_1": "the text: "}}),
    (NAMED, {"prompts": {"first": "the query: ", "second": "x "}}),
    (NAMED, {"prompts": {"first": {"sentence_0": "the query: "}}}),
    (NAMED, {"prompts": {"second": {"sentence_0": "the query: "}}}),
    (NAMED, {}),
    ([], {}),
]


@pytest.fixture(scope="module")
def theirs(st):
    from sentence_transformers.cross_encoder import data_collator as cross
    from sentence_transformers.sentence_transformer import data_collator as dense

    return {"dense": dense.SentenceTransformerDataCollator, "cross": cross.CrossEncoderDataCollator}


@pytest.fixture(scope="module")
def models(st):
    folder = str(tiny_folder("dense", "bert"))
    return SentenceTransformer(folder, device="cpu"), st.SentenceTransformer(folder, device="cpu")


def assert_same(one, other):
    assert list(one) == list(other)
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == other[key].dtype
            np.testing.assert_array_equal(value.numpy(), other[key].numpy(), err_msg=key)
        elif isinstance(value, list) and value and isinstance(value[0], torch.Tensor):
            assert all(torch.equal(a, b) for a, b in zip(value, other[key], strict=True))
        else:
            assert value == other[key]


@pytest.mark.parametrize(("rows", "options"), CASES, ids=lambda value: named(value)[:60])
def test_batches(models, theirs, rows, options):
    made = [cls(preprocess_fn=model.preprocess, **options) for cls, model in
            zip((ours.SentenceTransformerDataCollator, theirs["dense"]), models, strict=True)]  # fmt: skip
    assert_same(*(collator(rows) for collator in made))


@pytest.mark.parametrize(
    "mapping",
    [{"sentence_0": "query"}, {"first": {"sentence_0": "query", "sentence_1": "document"}}, {"second": {"a": "b"}}],
)
def test_routes(theirs, mapping):
    calls = []

    def preprocess(inputs, prompt=None, task=None, **kwargs):
        calls.append((list(inputs), prompt, task, kwargs))
        return {"input_ids": torch.zeros(len(inputs), 2)}

    results = []
    for cls in (ours.SentenceTransformerDataCollator, theirs["dense"]):
        calls.clear()
        batch = cls(preprocess_fn=preprocess, router_mapping=mapping)(NAMED)
        results.append((list(batch), [batch.get(f"sentence_{i}_task") for i in (0, 1)], list(calls)))
    assert results[0] == results[1]


def test_prompts_by_dataset_need_its_name(models, theirs):
    for cls, model in zip((ours.SentenceTransformerDataCollator, theirs["dense"]), models, strict=True):
        with pytest.raises(ValueError, match=r"(?i)dataset"):
            cls(preprocess_fn=model.preprocess, prompts={"first": {"sentence_0": "p"}})(SCORED)


@pytest.mark.parametrize(("name", "said"), [("query", None), ("positive", "number 0"), ("doc_id", "ids")])
def test_columns_that_look_wrong_are_told_once(models, caplog, name, said):
    caplog.set_level(logging.WARNING, logger="fourfold")
    collator = ours.SentenceTransformerDataCollator(preprocess_fn=models[0].preprocess)
    for _ in range(2):
        collator([{name: "a", "other": "b"}])
    assert len(caplog.messages) == int(said is not None)
    assert said is None or said in caplog.text


CROSS_CASES = [
    (SCORED, {}),
    (SCORED, {"prompts": "p: "}),
    (NAMED, {"prompts": {"first": "p: "}, "router_mapping": {"first": "rank"}}),
    (NAMED, {"prompts": {"second": "p: "}}),
    ([{"query": "q", "docs": ["a", "b"], "labels": [1, 0]}, {"query": "r", "docs": ["c"], "labels": [1]}], {}),
]


@pytest.mark.parametrize(("rows", "options"), CROSS_CASES, ids=lambda value: named(value)[:60])
def test_batches_of_rerankers(theirs, rows, options):
    model = CrossEncoder(str(tiny_folder("cross", "bert")), device="cpu")
    made = [cls(preprocess_fn=model.preprocess, **options) for cls in (ours.CrossEncoderDataCollator, theirs["cross"])]
    assert_same(*(collator(rows) for collator in made))
    for cls in (ours.CrossEncoderDataCollator, theirs["cross"]):
        with pytest.raises(ValueError):
            cls(preprocess_fn=model.preprocess, prompts={"first": {"query": "p"}})


def test_packed_columns(models):
    batch = ours.SentenceTransformerDataCollator(preprocess_fn=models[0].batch_features)(TRIPLE)
    assert batch["anchor_packing"].lengths.tolist() == models[0].preprocess(TEXTS)["attention_mask"].sum(1).tolist()
    assert {key.split("_")[0] for key in batch} == {"label", "anchor", "positive", "negative"}
