"""Trainings beside the older library's: the same data, seeds and arguments give the same curve of losses."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from tests.support import WORDS
from tests.tolerances import CURVE
from torch import nn

import fourfold
from fourfold.testing import tiny_folder
from fourfold.training.arguments import BaseTrainingArguments

RANDOM = np.random.default_rng(0)


def texts(rows, longest=12):
    return [" ".join(RANDOM.choice(WORDS, RANDOM.integers(1, longest))) for _ in range(rows)]


PAIRS = {"anchor": texts(64), "positive": texts(64, 30)}
SCORED = {**PAIRS, "score": RANDOM.random(64).tolist()}
TRIPLES = {**PAIRS, "negative": texts(64, 20)}
CLASSED = {**PAIRS, "label": RANDOM.integers(0, 3, 64).tolist()}
BY_CLASS = {"text": texts(64), "label": RANDOM.integers(0, 6, 64).tolist()}
BINARY = {**PAIRS, "label": RANDOM.integers(0, 2, 64).tolist()}


@pytest.fixture(scope="module")
def theirs(st):
    from sentence_transformers import cross_encoder, sparse_encoder
    from sentence_transformers.cross_encoder import losses as cross_losses
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.sparse_encoder import losses as sparse_losses

    return {
        "dense": (
            st.SentenceTransformer, st.SentenceTransformerTrainer, st.SentenceTransformerTrainingArguments, losses
        ),
        "sparse": (
            st.SparseEncoder, sparse_encoder.SparseEncoderTrainer, sparse_encoder.SparseEncoderTrainingArguments,
            sparse_losses,
        ),
        "cross": (
            st.CrossEncoder, cross_encoder.CrossEncoderTrainer, cross_encoder.CrossEncoderTrainingArguments,
            cross_losses,
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def ours():
    from fourfold import cross_encoder, losses, sparse_encoder
    from fourfold.cross_encoder import losses as cross_losses
    from fourfold.sparse_encoder import losses as sparse_losses

    return {
        "dense": (
            fourfold.SentenceTransformer, fourfold.SentenceTransformerTrainer,
            fourfold.SentenceTransformerTrainingArguments, losses,
        ),
        "sparse": (
            fourfold.SparseEncoder, sparse_encoder.SparseEncoderTrainer, sparse_encoder.SparseEncoderTrainingArguments,
            sparse_losses,
        ),
        "cross": (
            fourfold.CrossEncoder, cross_encoder.CrossEncoderTrainer, cross_encoder.CrossEncoderTrainingArguments,
            cross_losses,
        ),
    }  # fmt: skip


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout_prob", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    if model[0].model.config is not None:
        model[0].model.config.attention_probs_dropout_prob = 0.0
    return model


def train(library, family, architecture, data, loss, folder, *, eval_data=None, **options):
    """Return the log of a training and the model."""
    model_class, trainer_class, arguments_class, losses = library[family]
    model = without_dropout(model_class(str(tiny_folder(family, architecture)), device="cpu"))
    torch.manual_seed(7)
    built = loss(losses, model)
    arguments = {
        "output_dir": str(folder), "report_to": "none", "per_device_train_batch_size": 8, "learning_rate": 1e-3,
        "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True, "max_steps": 10, "seed": 5, **options,
    }  # fmt: skip
    as_dataset = {name: Dataset.from_dict(part) for name, part in data.items()} if _nested(data) else (
        Dataset.from_dict(data))  # fmt: skip
    more = {} if eval_data is None else {"eval_dataset": Dataset.from_dict(eval_data), "eval_strategy": "steps"}
    if more:
        arguments["eval_strategy"] = more.pop("eval_strategy")
    trainer = trainer_class(model, arguments_class(**arguments), train_dataset=as_dataset, loss=built, **more)
    trainer.train()
    return trainer.state.log_history, model, trainer


def _nested(data):
    return isinstance(next(iter(data.values())), dict)


def assert_same_curve(one, other):
    assert len(one) == len(other)
    for ours, theirs in zip(one, other, strict=True):
        assert list(ours) == list(theirs)
        for key, value in ours.items():
            if "runtime" in key or "per_second" in key or key == "grad_norm":
                continue
            assert value == pytest.approx(theirs[key], abs=CURVE, rel=CURVE), (key, ours, theirs)


def compare(ours, theirs, tmp_path, *args, **options):
    one, model, _ = train(ours, *args, folder=tmp_path / "ours", **options)
    other, old, _ = train(theirs, *args, folder=tmp_path / "theirs", **options)
    assert_same_curve(one, other)
    return model, old


DENSE = {
    "cosent": (SCORED, lambda L, m: L.CoSENTLoss(m), {}),
    "default": (SCORED, lambda L, m: None, {}),
    "function": (SCORED, lambda L, m: lambda model: L.CosineSimilarityLoss(model), {}),
    "class": (SCORED, lambda L, m: L.CoSENTLoss, {}),
    "in_batch": (PAIRS, lambda L, m: L.MultipleNegativesRankingLoss(m), {"batch_sampler": "no_duplicates"}),
    "hashed": (TRIPLES, lambda L, m: L.MultipleNegativesRankingLoss(m), {"batch_sampler": "no_duplicates_hashed"}),
    "cached": (TRIPLES, lambda L, m: L.CachedMultipleNegativesRankingLoss(m, mini_batch_size=3), {}),
    "matryoshka": (
        PAIRS, lambda L, m: L.MatryoshkaLoss(m, L.MultipleNegativesRankingLoss(m), [32, 16, 8]), {"warmup_steps": 5}
    ),
    "triplets": (
        BY_CLASS, lambda L, m: L.BatchHardSoftMarginTripletLoss(m), {"batch_sampler": "group_by_label"}
    ),
    "softmax": (CLASSED, lambda L, m: L.SoftmaxLoss(m, 32, 3), {"gradient_accumulation_steps": 3, "max_steps": 6}),
    "rates": (CLASSED, lambda L, m: L.SoftmaxLoss(m, 32, 3), {
        "learning_rate_mapping": {"classifier": 1e-2, "bias": 1e-4}, "weight_decay": 0.1, "lr_scheduler_type": "cosine",
    }),
    "prompts": (PAIRS, lambda L, m: L.MultipleNegativesRankingLoss(m), {"prompts": {"anchor": "query the "}}),
    "parts": (PAIRS, lambda L, m: L.GlobalOrthogonalRegularizationLoss(m), {"max_steps": 5, "logging_steps": 2}),
    "several": (
        {"pairs": PAIRS, "scored": SCORED},
        lambda L, m: {"pairs": L.MultipleNegativesRankingLoss(m), "scored": L.CoSENTLoss(m)},
        {"prompts": {"pairs": "the ", "scored": {"positive": "lazy "}}},
    ),
    "in_turn": (
        {"pairs": PAIRS, "triples": TRIPLES}, lambda L, m: L.MultipleNegativesRankingLoss(m),
        {"multi_dataset_batch_sampler": "round_robin", "batch_sampler": "no_duplicates"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DENSE)
def test_dense(ours, theirs, tmp_path, name):
    data, loss, options = DENSE[name]
    compare(ours, theirs, tmp_path, "dense", "bert", data, loss, **options)


@pytest.mark.parametrize(("architecture", "steps"), [("bert", 200), ("mpnet", 30), ("modernbert", 30)])
def test_many_steps(ours, theirs, tmp_path, architecture, steps):
    model, old = compare(
        ours, theirs, tmp_path, "dense", architecture, TRIPLES, lambda L, m: L.MultipleNegativesRankingLoss(m),
        max_steps=steps, learning_rate=1e-4,
    )  # fmt: skip
    texts = TRIPLES["positive"][:8]
    np.testing.assert_allclose(model.encode(texts), old.encode(texts), atol=CURVE)


@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
def test_evaluation_during_training(ours, theirs, tmp_path, architecture):
    compare(
        ours, theirs, tmp_path, "dense", architecture, SCORED, lambda L, m: L.CoSENTLoss(m), eval_steps=3, max_steps=8,
        eval_data={key: value[:21] for key, value in SCORED.items()},
    )  # fmt: skip


SPARSE = {
    "splade": (
        TRIPLES,
        lambda L, m: L.SpladeLoss(
            m, L.SparseMultipleNegativesRankingLoss(m), document_regularizer_weight=3e-3, query_regularizer_weight=5e-3
        ),
    ),
    "default": (PAIRS, lambda L, m: None),
    "scores": (
        SCORED,
        lambda L, m: L.SpladeLoss(
            m, L.SparseCoSENTLoss(m), document_regularizer_weight=3e-3, use_document_regularizer_only=True
        ),
    ),
}


@pytest.mark.parametrize("name", SPARSE)
def test_sparse(ours, theirs, tmp_path, name):
    data, loss = SPARSE[name]
    compare(ours, theirs, tmp_path, "sparse", "bert", data, loss, learning_rate=1e-4)


CROSS = {
    "default": (BINARY, lambda L, m: None, {}),
    "ranking": (TRIPLES, lambda L, m: L.MultipleNegativesRankingLoss(m, num_negatives=None), {"max_steps": 4}),
    "prompt": (BINARY, lambda L, m: L.BinaryCrossEntropyLoss(m), {"prompts": "the query "}),
}


@pytest.mark.parametrize("name", CROSS)
def test_cross(ours, theirs, tmp_path, name):
    data, loss, options = CROSS[name]
    compare(ours, theirs, tmp_path, "cross", "bert", data, loss, **options)


def test_arguments(theirs):
    given = {
        "output_dir": "unused", "prompts": '{"a": "b"}', "router_mapping": '{"a": "query"}', "batch_sampler":
        "group_by_label", "warmup_ratio": 0.1, "learning_rate_mapping": '{"a": 1e-4}',
    }  # fmt: skip
    made = [cls(**given) for cls in (fourfold.SentenceTransformerTrainingArguments, theirs["dense"][2])]
    one, other = (arguments.to_dict() for arguments in made)
    assert one == other
    assert isinstance(made[0], BaseTrainingArguments)
    assert set(made[1]._VALID_DICT_FIELDS) <= set(made[0]._VALID_DICT_FIELDS)
