"""The older training interface beside the older library's: the same weights, evaluations, calls and files."""

import inspect
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.parity.test_trainer import without_dropout
from tests.support import WORDS
from tests.tolerances import CURVE
from torch import nn
from torch.utils.data import DataLoader

import fourfold
from fourfold.testing import tiny, tiny_folder

RANDOM = np.random.default_rng(3)


def texts(rows, longest=8):
    return [" ".join(RANDOM.choice(WORDS, RANDOM.integers(1, longest))) for _ in range(rows)]


FIRST, SECOND = texts(20), texts(20, 12)
DIFFERENT = [f"{WORDS[i % 12]} {i} {WORDS[i % 5]}" for i in range(20)]
PROBE = texts(6)
NUMBERED = "checkpoint-"


@dataclass
class Outcome:
    """What a training left behind."""

    model: Any
    encodings: np.ndarray
    evaluations: list = field(default_factory=list)
    calls: list = field(default_factory=list)
    files: list = field(default_factory=list)
    error: type | None = None
    saved: np.ndarray | None = None


@pytest.fixture(scope="module")
def ours():
    from fourfold import InputExample, SentenceTransformer, losses
    from fourfold.evaluation import BaseEvaluator
    from fourfold.training.legacy import cross_fit, dense_fit
    from fourfold.training.legacy.no_duplicates_loader import NoDuplicatesDataLoader
    from fourfold.training.legacy.sentence_label import SentenceLabelDataset

    return SimpleNamespace(
        SentenceTransformer=SentenceTransformer, CrossEncoder=fourfold.CrossEncoder, InputExample=InputExample,
        losses=losses, BaseEvaluator=BaseEvaluator, NoDuplicatesDataLoader=NoDuplicatesDataLoader,
        SentenceLabelDataset=SentenceLabelDataset, dense_fit=dense_fit, cross_fit=cross_fit,
    )  # fmt: skip


@pytest.fixture(scope="module")
def theirs(st):
    from sentence_transformers.cross_encoder import fit_mixin as cross_fit
    from sentence_transformers.sentence_transformer import datasets, evaluation, losses
    from sentence_transformers.sentence_transformer import fit_mixin as dense_fit

    return SimpleNamespace(
        SentenceTransformer=st.SentenceTransformer, CrossEncoder=st.CrossEncoder, InputExample=st.InputExample,
        losses=losses, BaseEvaluator=evaluation.BaseEvaluator,
        NoDuplicatesDataLoader=datasets.NoDuplicatesDataLoader, SentenceLabelDataset=datasets.SentenceLabelDataset,
        dense_fit=dense_fit, cross_fit=cross_fit,
    )  # fmt: skip


def recorder(library, seen, *, scores, named=True, less=False):
    """An evaluator that returns scores in turn and notes how it is called."""

    class Recorder(library.BaseEvaluator):
        def __call__(self, model, output_path=None, epoch=-1, steps=-1):
            score = scores[len(seen) % len(scores)]
            seen.append((output_path and os.path.relpath(output_path), epoch, steps))
            return {"other": 9.0, "score": score} if named else score

    made = Recorder()
    made.primary_metric = "score"
    made.greater_is_better = not less
    return made


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def seeded():
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002


def inside(folder, monkeypatch):
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)


def finish(outcome, folder, load, encode):
    outcome.encodings = encode(outcome.model)
    outcome.files = files_of(folder)
    if (Path(folder) / "out" / "modules.json").exists():
        outcome.saved = encode(load(str(Path(folder) / "out")))
    return outcome


def examples(library, labels="thirds", first=FIRST):
    made = {
        "thirds": [i % 3 / 2 for i in range(len(first))], "none": [0] * len(first),
        "binary": [i % 2 for i in range(len(first))], "classes": [i % 3 for i in range(len(first))],
    }[labels]  # fmt: skip
    pairs = zip(first, SECOND, made, strict=True)
    return [library.InputExample(texts=[one, other], label=label) for one, other, label in pairs]


def dense_objectives(library, model, kind):
    losses, example = library.losses, library.InputExample
    scored = (DataLoader(examples(library), shuffle=True, batch_size=4), losses.CosineSimilarityLoss(model))
    if kind == "scored":
        return [scored]
    if kind == "in_order":
        return [(DataLoader(examples(library), batch_size=6), losses.CoSENTLoss(model))]
    if kind == "two":
        pairs = examples(library, "none")[:11]
        ranking = losses.MultipleNegativesRankingLoss(model)
        return [scored, (DataLoader(pairs, shuffle=True, batch_size=3), ranking)]
    if kind == "no_duplicates":
        pairs = examples(library, "none", DIFFERENT)
        return [(library.NoDuplicatesDataLoader(pairs, 4), losses.MultipleNegativesRankingLoss(model))]
    if kind == "parameters":
        loss = losses.SoftmaxLoss(model, 32, 3)
        return [(DataLoader(examples(library, "classes"), shuffle=True, batch_size=5), loss)]
    if kind == "grouped":
        single = [example(texts=[text], label=place % 4) for place, text in enumerate(DIFFERENT)]
        grouped = library.SentenceLabelDataset(single)
        return [(DataLoader(grouped, batch_size=4), losses.BatchAllTripletLoss(model))]
    raise AssertionError(kind)


def train_dense(library, method, kind, folder, monkeypatch, *, evaluator=None, **options):
    inside(folder, monkeypatch)
    model = without_dropout(library.SentenceTransformer(str(tiny_folder("dense")), device="cpu"))
    seeded()
    outcome = Outcome(model, np.zeros(0))
    given = {"epochs": 2, "optimizer_params": {"lr": 1e-3}, "warmup_steps": 2, "show_progress_bar": False, **options}
    if evaluator is not None:
        given["evaluator"] = recorder(library, outcome.evaluations, **evaluator)
        given["callback"] = lambda *call: outcome.calls.append(call)
    try:
        getattr(model, method)(dense_objectives(library, model, kind), **given)
    except Exception as error:
        outcome.error = type(error)
    load = lambda path: library.SentenceTransformer(path, device="cpu")  # noqa: E731
    return finish(outcome, folder, load, lambda model: model.encode(PROBE))


def assert_same(one, other):
    assert (one.error is None) == (other.error is None), (one.error, other.error)
    np.testing.assert_allclose(one.encodings, other.encodings, atol=CURVE)
    assert one.evaluations == other.evaluations
    assert one.calls == other.calls
    assert one.files == other.files
    assert (one.saved is None) == (other.saved is None)
    if one.saved is not None:
        np.testing.assert_allclose(one.saved, other.saved, atol=CURVE)
    assert getattr(one.model, "best_score", None) == getattr(other.model, "best_score", None)


UP_AND_DOWN = {"scores": [0.5, 0.4, 0.5, 0.7, 0.6, 0.2, 0.9, 0.1]}
LESS = {**UP_AND_DOWN, "less": True}
LONE = {**UP_AND_DOWN, "named": False}

FIT = {
    "plain": ("scored", {"output_path": "out"}),
    "in_order": ("in_order", {"epochs": 1, "scheduler": "constantlr"}),
    "two": ("two", {"output_path": "out", "scheduler": "WarmupCosine"}),
    "parameters": ("parameters", {"scheduler": "warmupconstant", "max_grad_norm": 0.1, "weight_decay": 0.3}),
    "no_duplicates": ("no_duplicates", {"scheduler": "WarmupCosineWithHardRestarts"}),
    "grouped": ("grouped", {"epochs": 3}),
    "sgd": ("scored", {"optimizer_class": torch.optim.SGD, "optimizer_params": {"lr": 0.1, "momentum": 0.9}}),
    "steps": ("scored", {"epochs": 1, "steps_per_epoch": 3, "warmup_steps": 0}),
    "steps_of_two": ("two", {"epochs": 1, "steps_per_epoch": 5, "warmup_steps": 1}),
    "steps_ignored": ("scored", {"epochs": 2, "steps_per_epoch": 3}),
    "evaluated": ("scored", {"output_path": "out", "evaluation_steps": 3, "evaluator": UP_AND_DOWN}),
    "epoch_end": ("scored", {"output_path": "out", "evaluator": UP_AND_DOWN}),
    "less": ("scored", {"output_path": "out", "evaluation_steps": 2, "evaluator": LESS}),
    "nowhere": ("two", {"evaluation_steps": 4, "evaluator": UP_AND_DOWN}),
    "unsaved": ("scored", {"output_path": "out", "save_best_model": False, "evaluator": UP_AND_DOWN}),
    "unsaved_at_all": ("scored", {"output_path": "out", "save_best_model": False}),
    "checkpoints": (
        "scored", {"checkpoint_path": "some", "checkpoint_save_steps": 3, "checkpoint_save_total_limit": 2}
    ),
    "all_checkpoints": ("scored", {"checkpoint_path": "some", "checkpoint_save_steps": 4}),
    "not_resumed": ("scored", {"checkpoint_path": "some", "resume_from_checkpoint": True, "epochs": 1}),
    "unknown": ("scored", {"scheduler": "nope"}),
    "nobody": ("scored", {"evaluation_steps": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", FIT)
def test_dense_fit(ours, theirs, tmp_path, monkeypatch, name):
    kind, options = FIT[name]
    one = train_dense(ours, "fit", kind, tmp_path / "ours", monkeypatch, **options)
    other = train_dense(theirs, "fit", kind, tmp_path / "theirs", monkeypatch, **options)
    assert_same(one, other)


OLD_FIT = {
    "plain": ("scored", {"output_path": "out"}),
    "in_order": ("in_order", {"epochs": 1, "scheduler": "constantlr"}),
    "two": ("two", {"output_path": "out", "scheduler": "WarmupCosine"}),
    "parameters": ("parameters", {"scheduler": "warmupconstant", "max_grad_norm": 0.1, "weight_decay": 0.3}),
    "no_duplicates": ("no_duplicates", {"scheduler": "WarmupCosineWithHardRestarts"}),
    "grouped": ("grouped", {"epochs": 3}),
    "steps": ("two", {"steps_per_epoch": 7, "evaluation_steps": 3, "evaluator": LONE}),
    "evaluated": ("scored", {"output_path": "out", "evaluation_steps": 3, "evaluator": LONE}),
    "epoch_end": ("scored", {"output_path": "out", "evaluator": LONE}),
    "less": ("scored", {"output_path": "out", "evaluator": {**LONE, "less": True}}),
    "nowhere": ("scored", {"evaluation_steps": 2, "evaluator": LONE}),
    "unsaved": ("scored", {"output_path": "out", "save_best_model": False, "evaluator": LONE}),
    "unsaved_at_all": ("scored", {"output_path": "out", "save_best_model": False, "evaluation_steps": 2}),
    "checkpoints": (
        "scored", {"checkpoint_path": "some", "checkpoint_save_steps": 3, "checkpoint_save_total_limit": 2}
    ),
    "all_checkpoints": ("scored", {"checkpoint_path": "some", "checkpoint_save_steps": 4}),
    "no_epochs": ("scored", {"output_path": "out", "epochs": 0}),
    "unknown": ("scored", {"scheduler": "nope"}),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD_FIT)
def test_dense_old_fit(ours, theirs, tmp_path, monkeypatch, name):
    kind, options = OLD_FIT[name]
    one = train_dense(ours, "old_fit", kind, tmp_path / "ours", monkeypatch, **options)
    other = train_dense(theirs, "old_fit", kind, tmp_path / "theirs", monkeypatch, **options)
    assert_same(one, other)


def test_a_resumed_fit(ours, theirs, tmp_path, monkeypatch):
    options = {"checkpoint_path": "some", "checkpoint_save_steps": 4, "warmup_steps": 0}
    ends = []
    for name, library in (("ours", ours), ("theirs", theirs)):
        train_dense(library, "fit", "scored", tmp_path / name, monkeypatch, **options)
        again = {**options, "epochs": 3, "resume_from_checkpoint": True}
        ends.append(train_dense(library, "fit", "scored", tmp_path / name, monkeypatch, **again))
    one, other = ends
    np.testing.assert_allclose(one.encodings, other.encodings, atol=CURVE)
    assert one.files == other.files


# -- cross encoders ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    from fourfold.testing import checkpoint

    folder = tmp_path_factory.mktemp("three")
    return str(checkpoint("bert", folder, head="labels", num_labels=3))


def train_cross(library, method, path, folder, monkeypatch, *, evaluator=None, duplicates=True, **options):
    inside(folder, monkeypatch)
    model = without_dropout(library.CrossEncoder(path or str(tiny_folder("cross")), device="cpu"))
    seeded()
    outcome = Outcome(model, np.zeros(0))
    labels = "binary" if path is None else "classes"
    if duplicates:
        loader = DataLoader(examples(library, labels), shuffle=True, batch_size=4)
    else:
        loader = library.NoDuplicatesDataLoader(examples(library, labels, DIFFERENT), 4)
    given = {"epochs": 2, "optimizer_params": {"lr": 1e-3}, "warmup_steps": 2, "show_progress_bar": False, **options}
    if evaluator is not None:
        given["evaluator"] = recorder(library, outcome.evaluations, **evaluator)
        given["callback"] = lambda *call: outcome.calls.append(call)
    try:
        getattr(model, method)(loader, **given)
    except Exception as error:
        outcome.error = type(error)
    pairs = list(zip(PROBE, PROBE[::-1], strict=True))
    load = lambda path: library.CrossEncoder(path, device="cpu")  # noqa: E731
    return finish(outcome, folder, load, lambda model: model.predict(pairs))


CROSS = {
    "plain": {"output_path": "out"},
    "no_duplicates": {"duplicates": False, "scheduler": "warmupcosine"},
    "activation": {"activation_fct": nn.Sigmoid(), "scheduler": "constantlr", "weight_decay": 0.3},
    "evaluated": {"output_path": "out", "evaluation_steps": 3, "evaluator": UP_AND_DOWN},
    "lone_in_old": {"output_path": "out", "evaluation_steps": 3, "evaluator": LONE},
    "epoch_end": {"output_path": "out", "evaluator": UP_AND_DOWN},
    "nowhere": {"evaluation_steps": 2, "evaluator": UP_AND_DOWN},
    "unsaved": {"output_path": "out", "evaluation_steps": 2, "save_best_model": False, "evaluator": UP_AND_DOWN},
    "unknown": {"scheduler": "nope"},
}


@pytest.mark.parametrize("method", ["fit", "old_fit"])
@pytest.mark.parametrize("name", CROSS)
def test_cross(ours, theirs, tmp_path, monkeypatch, name, method):
    if (name, method) == ("lone_in_old", "fit"):
        pytest.skip("the older library's fit drops a lone number")
    one = train_cross(ours, method, None, tmp_path / "ours", monkeypatch, **CROSS[name])
    other = train_cross(theirs, method, None, tmp_path / "theirs", monkeypatch, **CROSS[name])
    assert_same(one, other)


@pytest.mark.parametrize("method", ["fit", "old_fit"])
def test_cross_of_three_labels(ours, theirs, three, tmp_path, monkeypatch, method):
    one = train_cross(ours, method, three, tmp_path / "ours", monkeypatch)
    other = train_cross(theirs, method, three, tmp_path / "theirs", monkeypatch)
    assert_same(one, other)


@pytest.mark.parametrize("labels", [1, 3])
def test_a_loss_of_ones_own(ours, theirs, three, tmp_path, monkeypatch, labels):
    loss = nn.MSELoss() if labels == 1 else nn.CrossEntropyLoss(label_smoothing=0.3)
    path = None if labels == 1 else three
    one = train_cross(ours, "old_fit", path, tmp_path / "ours", monkeypatch, loss_fct=loss)
    other = train_cross(theirs, "old_fit", path, tmp_path / "theirs", monkeypatch, loss_fct=loss)
    assert_same(one, other)


def test_collating_pairs(ours, theirs):
    pairs = [(" a text", "the world \n"), ("short", "a longer document")]
    made = []
    for library in (ours, theirs):
        model = library.CrossEncoder(str(tiny_folder("cross")), device="cpu")
        batch = [library.InputExample(texts=list(pair), label=1) for pair in pairs]
        made.append((model.smart_batching_collate(batch), model.smart_batching_collate_text_only(pairs)))
    for one, other in zip(*made, strict=True):
        ours_features, theirs_features = (part[0] if isinstance(part, tuple) else part for part in (one, other))
        assert type(ours_features) is type(theirs_features)
        assert list(ours_features) == list(theirs_features)
        for name, tensor in theirs_features.items():
            assert torch.equal(ours_features[name], tensor)
    ours_labels, theirs_labels = made[0][0][1], made[1][0][1]
    assert ours_labels.dtype == theirs_labels.dtype
    assert torch.equal(ours_labels, theirs_labels)


# -- signatures and callbacks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SentenceTransformer", "CrossEncoder"])
@pytest.mark.parametrize("method", ["fit", "old_fit"])
def test_signatures(ours, theirs, name, method):
    def arguments(library):
        found = inspect.signature(getattr(getattr(library, name), method)).parameters.values()
        return [(each.name, each.kind, repr(each.default)) for each in found]

    assert arguments(ours) == arguments(theirs)


@pytest.mark.parametrize("family", ["dense_fit", "cross_fit"])
def test_callbacks(ours, theirs, tmp_path, family):
    state = SimpleNamespace(epoch=1.5, global_step=3, is_world_process_zero=True)
    metrics = [{"eval_score": 0.5}, {"score": 0.7}, {"eval_name_score": 0.6}, {"eval_loss": 1.0}, {"eval_score": 0.8}]
    found = []
    for name, library in (("ours", ours), ("theirs", theirs)):
        made, calls = getattr(library, family), []
        evaluator = recorder(library, [], scores=[1.0])
        reporting = made.OriginalCallback(lambda *call, calls=calls: calls.append(call), evaluator)
        saving = made.SaveModelCallback(str(tmp_path / name), evaluator, True)
        model = tiny()
        for each in metrics:
            reporting.on_evaluate(None, state, None, metrics=each)
            saving.on_evaluate(None, state, None, model=model, metrics=each)
            better = [saving.is_better(number) for number in (0.6, 0.7, 0.8)]
            calls.append((saving.best_metric, better))
        found.append((calls, files_of(tmp_path / name)))
    assert found[0] == found[1]
