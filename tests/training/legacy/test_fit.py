"""The older training interface: what it is told, what it calls, what it writes."""

import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from fourfold import InputExample, errors
from fourfold.errors import InputError, InputTypeError, MissingTrainingError
from fourfold.evaluation import BaseEvaluator
from fourfold.losses import CosineSimilarityLoss, MultipleNegativesRankingLoss
from fourfold.losses.contrastive_tension_loss import ContrastiveTensionDataLoader
from fourfold.testing import tiny, tiny_folder
from fourfold.training.legacy import _examples, _loop, _settings, callbacks, cross_fit, dense_fit
from fourfold.training.legacy._settings import Settings
from fourfold.training.legacy.no_duplicates_loader import NoDuplicatesDataLoader
from fourfold.training.legacy.sentence_label import SentenceLabelDataset
from fourfold.training.samplers import BatchSamplers

QUICK = {"epochs": 1, "warmup_steps": 0, "show_progress_bar": False, "optimizer_params": {"lr": 1e-3}}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Counted(BaseEvaluator):
    """Returns scores in turn."""

    def __init__(self, *scores, named=True):
        super().__init__()
        self.scores, self.named, self.calls = scores, named, []
        self.primary_metric = "score" if named else None

    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        self.calls.append((output_path, epoch, steps))
        score = self.scores[(len(self.calls) - 1) % len(self.scores)]
        return {"more": 7.0, "score": score} if self.named else score


def pairs(rows=8):
    return [InputExample(texts=[f"text {i}", f"the text {i * 3}"], label=i % 2) for i in range(rows)]


def objective(model, rows=8, size=2):
    return DataLoader(pairs(rows), batch_size=size), CosineSimilarityLoss(model)


# -- examples ----------------------------------------------------------------------------------------------------------


def test_examples_become_columns():
    loader = DataLoader(pairs(3), batch_size=2)
    before = loader.collate_fn
    dataset = _examples.read(loader)
    assert loader.collate_fn is before
    assert dataset.to_dict() == {
        "sentence_0": ["text 0", "text 1", "text 2"],
        "sentence_1": ["the text 0", "the text 3", "the text 6"],
        "label": [0, 1, 0],
    }


@pytest.mark.parametrize(("labels", "there"), [([0, 0], False), ([0.0, 0.5], True), ([[0, 0], [0, 1]], True)])
def test_labels_that_say_nothing_are_left_out(labels, there):
    examples = [InputExample(texts=["a"], label=label) for label in labels]
    assert ("label" in _examples.read(DataLoader(examples)).column_names) == there


def test_labels_may_be_vectors():
    examples = [InputExample(texts=["a"], label=np.array([0.5, 1.0])), InputExample(texts=["b"], label=np.zeros(2))]
    assert _examples.read(DataLoader(examples))["label"][0] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "no examples"),
        ([InputExample(texts=["a"]), InputExample(texts=["a", "b"])], "some with 1 and some with 2"),
        ([InputExample()], "at least one"),
    ],
)
def test_examples_that_make_no_dataset(examples, message):
    with pytest.raises(InputError, match=message):
        _examples.read(_Plain(examples))


class _Plain:
    collate_fn = None

    def __init__(self, examples):
        self.examples = examples

    def __iter__(self):
        yield self.examples


def test_loaders_say_how_rows_become_batches(caplog):
    examples = pairs()
    assert _examples.batch_size(DataLoader(examples, batch_size=3)) == 3
    assert _examples.batch_size(_Plain(examples)) == 8
    assert _examples.batch_sampler(DataLoader(examples)) is BatchSamplers.BATCH_SAMPLER
    assert _examples.batch_sampler(NoDuplicatesDataLoader(examples, 2)) is BatchSamplers.NO_DUPLICATES
    grouped = DataLoader(SentenceLabelDataset(examples))
    assert _examples.batch_sampler(grouped) is BatchSamplers.GROUP_BY_LABEL
    assert not caplog.records

    class Own(BatchSampler):
        pass

    own = DataLoader(examples, batch_sampler=Own(SequentialSampler(examples), 2, False))
    assert _examples.batch_sampler(own) is BatchSamplers.BATCH_SAMPLER
    assert "the loader's Own are lost" in caplog.text


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("ConstantLR", [1, 1, 1, 1, 1, 1, 1]),
        ("warmupconstant", [0, 0.5, 1, 1, 1, 1, 1]),
        ("WarmupLinear", [0, 0.5, 1, 0.75, 0.5, 0.25, 0]),
        ("WARMUPCOSINE", [0, 0.5, 1, 0.853553, 0.5, 0.146447, 0]),
        ("WarmupCosineWithHardRestarts", [0, 0.5, 1, 0.853553, 0.5, 0.146447, 0]),
    ],
)
def test_schedulers(name, rates):
    settings = Settings(scheduler=name, warmup_steps=2, optimizer_params={"lr": 1.0})
    optimizer = settings.make_optimizer(nn.Linear(2, 2))
    scheduler = settings.make_scheduler(optimizer, 6)
    found = []
    for _ in rates:
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert found == pytest.approx(rates, abs=1e-6)


def test_an_unknown_scheduler():
    with pytest.raises(InputError, match="Did you mean 'warmuplinear'"):
        tiny().old_fit([objective(tiny())], scheduler="warmup_linear")


def test_parameters_come_once_and_biases_do_not_decay():
    module = nn.ModuleDict({"dense": nn.Linear(2, 3), "LayerNorm": nn.LayerNorm(3), "other": nn.LayerNorm(3)})
    decaying, others = _settings.parameter_groups([module, nn.Sequential(module)], 0.3)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert [tuple(parameter.shape) for parameter in decaying["params"]] == [(3, 2), (3,)]
    assert len(others["params"]) == 4


def test_free_folders(tmp_path):
    assert _settings.free_folder() == "checkpoints/model"
    (tmp_path / "checkpoints" / "model").mkdir(parents=True)
    (tmp_path / "checkpoints" / "model_1").mkdir()
    (tmp_path / "checkpoints" / "model_3").mkdir()
    assert _settings.free_folder() == "checkpoints/model_2"


@pytest.mark.parametrize("family", ["dense", "cross"])
def test_what_fit_refuses(family):
    model = tiny(family)
    given = [objective(model)] if family == "dense" else DataLoader(pairs())
    with pytest.raises(InputTypeError, match="by its name"):
        model.fit(given, scheduler=object())
    with pytest.raises(InputError, match="evaluation_steps=2 needs an evaluator"):
        model.fit(given, evaluation_steps=2)


def test_nothing_to_train_on():
    for method in ("fit", "old_fit"):
        with pytest.raises(InputError, match="train_objectives is empty"):
            getattr(tiny(), method)([])
    with pytest.raises(InputError, match="no batches"):
        next(_loop.Endless(DataLoader([])))


@pytest.mark.parametrize("family", ["dense", "cross"])
def test_missing_packages(monkeypatch, family):
    monkeypatch.setattr(errors, "installed", lambda package: package not in ("accelerate", "datasets"))
    model = tiny(family)
    given = [objective(model)] if family == "dense" else DataLoader(pairs(), batch_size=2)
    with pytest.raises(MissingTrainingError, match=r"\.fit needs the package accelerate"):
        model.fit(given)
    model.old_fit(given, **QUICK)


# -- callbacks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("primary", "metrics", "score"),
    [
        ("score", {"eval_score": 1.0}, 1.0),
        ("score", {"score": 2.0}, 2.0),
        ("score", {"eval_name_score": 3.0}, 3.0),
        ("score", {"eval_name_score": 3.0, "eval_score": 4.0}, 4.0),
        ("score", {"eval_loss": 1.0}, None),
        ("score", {"eval_evaluator": 5.0}, 5.0),
        (None, {"eval_evaluator": 6.0}, 6.0),
    ],
)
def test_scores(primary, metrics, score):
    assert callbacks.score_of(metrics, SimpleNamespace(primary_metric=primary)) == score


def test_a_score_that_is_not_known():
    with pytest.raises(InputError, match="SimpleNamespace returns eval_a, eval_b"):
        callbacks.score_of({"eval_a": 1.0, "eval_b": 2.0}, SimpleNamespace(primary_metric=None))


def test_what_is_better():
    evaluator = Counted(1.0)
    saving = callbacks.SaveModelCallback("unused", evaluator, True)
    assert saving.is_better(-5.0)
    saving.best_metric = 0.5
    assert [saving.is_better(score) for score in (0.4, 0.5, 0.6, float("nan"))] == [False, False, True, False]
    evaluator.greater_is_better = False
    assert [saving.is_better(score) for score in (0.4, 0.5, 0.6)] == [True, False, False]
    saving.best_metric = float("nan")
    assert saving.is_better(0.0)


def test_an_evaluator_alone(tmp_path):
    evaluator = Counted(1.0)
    callback = callbacks.EvaluatorCallback(evaluator, str(tmp_path / "out"))
    assert (tmp_path / "out" / "eval").is_dir()
    state = SimpleNamespace(epoch=1.0, global_step=5, is_world_process_zero=True)
    callback.on_epoch_end(None, state, None, model=None)
    state.is_world_process_zero = False
    callback.on_epoch_end(None, state, None, model=None)
    assert evaluator.calls == [(str(tmp_path / "out" / "eval"), 1.0, 5), (None, 1.0, 5)]


# -- dense encoders ----------------------------------------------------------------------------------------------------


def saved(folder):
    return (folder / "modules.json").is_file()


def test_a_fit_evaluates_reports_and_saves_the_best(tmp_path):
    model, calls = tiny(), []
    evaluator = Counted(0.3, 0.5, 0.4)
    before = model.encode("a text")
    model.fit(
        [objective(model)], evaluator, **{**QUICK, "epochs": 2}, evaluation_steps=3, output_path="out",
        callback=lambda *call: calls.append(call),
    )  # fmt: skip
    assert evaluator.calls == [
        ("checkpoints/model/eval", 0.75, 3), ("out/eval", 1.0, 4), ("checkpoints/model/eval", 1.5, 6),
        ("checkpoints/model/eval", 2.0, 8), ("out/eval", 2.0, 8),
    ]  # fmt: skip
    assert calls == [(0.3, 0.75, 3), (0.5, 1.0, 4), (0.4, 1.5, 6), (0.3, 2.0, 8), (0.5, 2.0, 8)]
    assert saved(tmp_path / "out")
    kept = type(model)(str(tmp_path / "out"), device="cpu")
    assert not np.allclose(model.encode("a text"), before)
    assert not np.array_equal(model.encode("a text"), kept.encode("a text"))


@pytest.mark.parametrize("method", ["fit", "old_fit"])
def test_evaluators_that_return_one_number(tmp_path, method):
    model, calls = tiny(), []
    getattr(model, method)(
        [objective(model)], Counted(0.5, named=False), **QUICK, output_path="out",
        callback=lambda *call: calls.append(call),
    )  # fmt: skip
    assert calls == [(0.5, 1.0, 4)] if method == "fit" else [(0.5, 0, -1)]
    assert saved(tmp_path / "out")


def test_what_is_no_evaluator_of_ours():
    model, seen = tiny(), []
    model.fit([objective(model)], lambda model, output_path, epoch, steps: seen.append(steps) or 1.0, **QUICK)
    assert seen == [4]


def test_an_old_fit_takes_an_evaluators_primary_metric(tmp_path):
    model, calls = tiny(), []
    evaluator = Counted(0.4, 0.2, 0.3)
    evaluator.greater_is_better = False
    model.old_fit(
        [objective(model)], evaluator, **{**QUICK, "epochs": 3}, output_path="out",
        callback=lambda *call: calls.append(call),
    )  # fmt: skip
    assert model.best_score == 0.2
    assert evaluator.calls == [("out/eval", epoch, -1) for epoch in range(3)]
    assert [call[0]["score"] for call in calls] == [0.4, 0.2, 0.3]
    assert saved(tmp_path / "out")


def test_an_old_fit_with_an_evaluator_whose_metric_is_not_there():
    model, evaluator = tiny(), Counted(0.4)
    evaluator.primary_metric = "nothing"
    with pytest.raises(InputError, match="primary_metric is 'nothing', and it returns eval_more, eval_score"):
        model.old_fit([objective(model)], evaluator, **QUICK)


def test_several_objectives_in_turn():
    model, seen = tiny(), []

    class Noting(MultipleNegativesRankingLoss):
        def forward(self, sentence_features, labels=None):
            columns = list(sentence_features)
            seen.append(len(columns[0]["input_ids"]))
            return super().forward(columns, labels)

    both = [objective(model), (DataLoader(pairs(6), batch_size=3), Noting(model))]
    model.old_fit(both, **QUICK)
    assert seen == [3, 3]
    model.old_fit(both, steps_per_epoch=5, **QUICK)
    assert len(seen) == 7


def test_batches_of_contrastive_tension():
    random.seed(0)
    model = tiny()
    loader = ContrastiveTensionDataLoader([f"text {i}" for i in range(30)], batch_size=4, pos_neg_ratio=4)
    model.fit([(loader, CosineSimilarityLoss(model))], **QUICK)
    model.old_fit([(loader, CosineSimilarityLoss(model))], **QUICK)
    assert loader.collate_fn is None


def test_a_loss_of_parts():
    model = tiny()

    class Parts(CosineSimilarityLoss):
        def forward(self, sentence_features, labels=None):
            loss = super().forward(sentence_features, labels)
            return {"one": loss, "two": 2 * loss}

    before = model.encode("a text")
    model.old_fit([(DataLoader(pairs()), Parts(model))], **QUICK)
    assert not np.allclose(model.encode("a text"), before)


def test_steps_of_one_epoch_and_of_more(caplog):
    for epochs, steps in ((1, 3), (2, 8)):
        model, evaluator = tiny(), Counted(1.0)
        model.fit([objective(model)], evaluator, **{**QUICK, "epochs": epochs}, steps_per_epoch=3)
        assert evaluator.calls[-1][2] == steps
        assert ("steps_per_epoch=3 has no effect with epochs=2" in caplog.text) == (epochs == 2)


def test_checkpoints_and_resuming(tmp_path, caplog):
    options = {"checkpoint_path": "some", "checkpoint_save_steps": 3, "checkpoint_save_total_limit": 2}
    model = tiny()
    model.fit([objective(model)], **{**QUICK, "epochs": 2}, **options)
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["checkpoint-6", "checkpoint-8"]
    assert not (tmp_path / "checkpoints").exists()
    model, evaluator = tiny(), Counted(1.0)
    model.fit([objective(model)], evaluator, **{**QUICK, "epochs": 3}, **options, resume_from_checkpoint=True)
    assert [call[2] for call in evaluator.calls] == [12]
    assert "starting anew" not in caplog.text


@pytest.mark.parametrize("folder", [None, "nowhere"])
def test_nothing_to_resume_from(caplog, folder):
    model, evaluator = tiny(), Counted(1.0)
    model.fit([objective(model)], evaluator, **QUICK, checkpoint_path=folder, resume_from_checkpoint=True)
    assert [call[2] for call in evaluator.calls] == [4]
    assert "starting anew" in caplog.text


def test_checkpoints_of_an_old_fit(tmp_path):
    (tmp_path / "some" / "1").mkdir(parents=True)  # of somebody else
    model = tiny()
    model.old_fit(
        [objective(model)], **{**QUICK, "epochs": 3}, checkpoint_path="some", checkpoint_save_steps=3,
        checkpoint_save_total_limit=2,
    )  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["1", "12", "9"]
    again = type(model)(str(tmp_path / "some" / "12"), device="cpu")
    np.testing.assert_array_equal(again.encode("a text"), model.encode("a text"))


def test_a_scheduler_of_ones_own():
    class Counting:
        steps = 0

        def step(self):
            self.steps += 1

    counting, model = Counting(), tiny()
    model.old_fit([objective(model)], **QUICK, scheduler=counting)
    assert counting.steps == 4


# -- cross encoders ----------------------------------------------------------------------------------------------------


def test_a_cross_encoder_saves_what_an_evaluation_within_an_epoch_finds(tmp_path, caplog):
    model, calls = tiny("cross"), []
    evaluator = Counted(0.5, 0.9, 0.4)
    model.fit(
        DataLoader(pairs(), batch_size=2), evaluator, **QUICK, evaluation_steps=3, output_path="out",
        callback=lambda *call: calls.append(call),
    )  # fmt: skip
    assert evaluator.calls == [
        ("checkpoints/model/eval", 0.75, 3), ("checkpoints/model/eval", 1.0, 4), ("out/eval", 1.0, 4)
    ]  # fmt: skip
    assert calls == [(0.5, 0.75, 3), (0.9, 1.0, 4)]
    assert saved(tmp_path / "out")
    assert not caplog.records


@pytest.mark.parametrize("evaluated", [False, True])
def test_a_cross_encoder_says_that_it_will_not_be_saved(tmp_path, caplog, evaluated):
    model = tiny("cross")
    model.fit(DataLoader(pairs(), batch_size=4), Counted(1.0) if evaluated else None, **QUICK, output_path="out")
    assert "no model will be saved to out" in caplog.text
    assert not saved(tmp_path / "out")


def test_a_loss_of_ones_own_in_both_loops():
    # fit() and old_fit() see the same batches in order, since the loader does not shuffle and there is one batch.
    made = []
    for method in ("fit", "old_fit"):
        model = tiny("cross").eval()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        loader = DataLoader(pairs(4), batch_size=4)
        getattr(model, method)(loader, **{**QUICK, "epochs": 3}, loss_fct=nn.MSELoss(), activation_fct=nn.Tanh())
        made.append(model.predict([("a text", "the text")]))
    np.testing.assert_allclose(*made, atol=1e-5)
    assert not np.allclose(made[0], tiny("cross").predict([("a text", "the text")]))


def test_a_function_as_a_loss():
    model, seen = tiny("cross"), []

    def function(logits, labels):
        seen.append((logits.shape, labels.dtype))
        return ((logits - labels) ** 2).mean()

    loss = cross_fit.FitMixinLoss(model, function)
    assert loss([["a", "b"], ["c", "d"]], torch.tensor([1, 0])).ndim == 0
    assert seen == [((2,), torch.float32)]
    with pytest.raises(InputError, match="columns"):
        loss([["a"], ["b"], ["c"]], torch.tensor([1]))
    assert set(loss.get_config_dict()) == {"loss_fct", "activation_fn"}


def test_the_names_of_the_contract():
    assert issubclass(type(tiny()), dense_fit.FitMixin)
    assert issubclass(type(tiny("cross")), cross_fit.FitMixin)
    for module in (dense_fit, cross_fit):
        assert module.EvaluatorCallback is callbacks.EvaluatorCallback
        assert module.OriginalCallback is callbacks.OriginalCallback
    assert not hasattr(tiny("sparse"), "fit")


def test_bars_are_shown(capfd):
    model = tiny("cross")
    model.old_fit(DataLoader(pairs(), batch_size=4), epochs=1)
    assert "Iteration" in capfd.readouterr().err


def test_training_at_half_precision():
    model = tiny()
    model.old_fit([objective(model)], **QUICK, use_amp=True)
    assert np.isfinite(model.encode("a text")).all()


def test_gradients_from_before_are_forgotten(caplog):
    caplog.set_level(logging.ERROR)
    models = [type(tiny())(str(tiny_folder()), device="cpu") for _ in range(2)]
    for model in models:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    for parameter in models[0].parameters():
        parameter.grad = torch.ones_like(parameter)
    for model in models:
        model.old_fit([objective(model)], **QUICK)
    np.testing.assert_array_equal(models[0].encode("a text"), models[1].encode("a text"))
