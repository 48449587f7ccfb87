"""A training from a file, in the terminal."""

import io
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from fourfold import CrossEncoder, SentenceTransformer, SparseEncoder
from fourfold.cli import _curve
from fourfold.cli.main import main
from fourfold.testing import tiny_folder

CLASSES = {"dense": SentenceTransformer, "sparse": SparseEncoder, "cross": CrossEncoder}
ROWS = [{"a": f"the text {i}", "b": f"a document {i % 5}", "score": (i % 5) / 4} for i in range(16)]


@pytest.fixture
def written(tmp_path):
    """What writes a file: a short training of a tiny model, with changes."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def write(kind="dense", **changes):
        columns = ["a", "b"] if kind == "sparse" else ["a", "b", "score"]
        tree = {
            "model": str(tiny_folder(kind)),
            "datasets": {"train": {"path": str(tmp_path / "rows.jsonl"), "columns": columns}},
            "arguments": {
                "output_dir": str(tmp_path / "out"), "per_device_train_batch_size": 4, "learning_rate": 1e-3,
                "use_cpu": True, "dataloader_pin_memory": False, "lr_scheduler_type": "constant",
            },
        }  # fmt: skip
        for key, value in changes.items():
            tree[key] = {**tree[key], **value} if key == "arguments" else value
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(tree))
        return str(path)

    return write


@pytest.fixture
def evaluators(tmp_path):
    columns = {"sentences1": "a", "sentences2": "b", "scores": "score"}
    data = {"path": str(tmp_path / "rows.jsonl")}
    return [{"name": "EmbeddingSimilarityEvaluator", "data": data, "columns": columns, "label": "dev"}]


def logged(tmp_path):
    return [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["dense", "sparse", "cross"])
def test_a_training_of_each_family(written, tmp_path, capsys, kind):
    assert main(["train", written(kind), "--set", "arguments.num_train_epochs=1"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith("fourfold: 4 steps in ")
    trained = CLASSES[kind](str(tmp_path / "out" / "final"), device="cpu")
    untrained = CLASSES[kind](str(tiny_folder(kind)), device="cpu")
    before, after = ([p.detach().numpy() for p in model.parameters()] for model in (untrained, trained))
    assert any(not np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert "generated_from_trainer" in (tmp_path / "out" / "final" / "README.md").read_text()
    assert [row["step"] for row in logged(tmp_path) if "loss" in row] == [1, 2, 3, 4]
    with Image.open(tmp_path / "out" / "loss.png") as picture:
        assert picture.format == "PNG"
        assert picture.width == _curve.WIDTH


def test_numbers_before_and_after(written, evaluators, tmp_path, capsys):
    assert main(["train", written(evaluators=evaluators), "--set", "arguments.num_train_epochs=1"]) == 0
    captured = capsys.readouterr()
    head, *rows = captured.out.splitlines()
    assert head.split() == ["metric", "before", "after", "change"]
    numbers = {name: list(map(float, values)) for name, *values in map(str.split, rows)}
    assert set(numbers) == {"dev_pearson_cosine", "dev_spearman_cosine"}
    first, *_, last = [row for row in logged(tmp_path) if "eval_dev_spearman_cosine" in row]
    assert (first["step"], last["step"]) == (0, 4)
    wanted = [first["eval_dev_spearman_cosine"], last["eval_dev_spearman_cosine"]]
    assert numbers["dev_spearman_cosine"] == pytest.approx([*wanted, wanted[1] - wanted[0]], abs=1e-4)
    assert "fourfold: step 4: dev_spearman_cosine" in captured.err


def test_a_dry_run_trains_nothing(written, evaluators, tmp_path, capsys):
    assert main(["train", written(evaluators=evaluators, loss="CoSENTLoss"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    for part in ("(dense, on cpu)", "16 rows of a, b, score", "CoSENTLoss", "EmbeddingSimilarityEvaluator dev",
                 "12 of 4 rows, 3 epochs", "first loss"):  # fmt: skip
        assert part in out
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_dry_run_sees_what_only_a_batch_shows(written, capsys):
    loss = {"name": "MatryoshkaLoss", "matryoshka_dims": [64], "loss": "CoSENTLoss"}
    assert main(["train", written(loss=loss), "--dry-run"]) == 2
    assert "64" in capsys.readouterr().err


def test_resume_goes_on_where_a_cut_run_was(written, tmp_path, capsys):
    path = written(arguments={"save_steps": 2})
    assert main(["train", path, "--set", "arguments.max_steps=6", "-o", str(tmp_path / "whole")]) == 0
    assert main(["train", path, "--set", "arguments.max_steps=2"]) == 0
    assert main(["train", path, "--set", "arguments.max_steps=6", "--resume"]) == 0
    assert "earlier training" not in capsys.readouterr().err
    rows = [row for row in logged(tmp_path) if "loss" in row]
    whole = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    losses = [row["loss"] for row in whole if "loss" in row]
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-4)
    assert main(["train", path, "--set", "arguments.max_steps=1"]) == 0
    assert "--resume would go on" in capsys.readouterr().err


def test_resume_without_a_checkpoint(written, capsys):
    assert main(["train", written(), "--resume"]) == 2
    assert "holds no whole checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("saved", [False, True])
def test_an_interrupt_tells_how_to_go_on(written, tmp_path, capsys, monkeypatch, saved):
    from fourfold.training.trainer import BaseTrainer

    step = BaseTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(BaseTrainer, "training_step", interrupted)
    assert main(["train", written(arguments={"save_steps": 1 if saved else 100})]) == 130
    err = capsys.readouterr().err
    assert ("with --resume goes on" if saved else "before the first checkpoint") in err
    assert not (tmp_path / "out" / "final").exists()
    assert not (tmp_path / "out" / "loss.png").exists()


def test_faults_are_told_together(written, capsys):
    path = written(los="CoSENTLoss", arguments={"epochs": 1})
    assert main(["train", path, "--set", "datasets.tran.path=x"]) == 2
    err = capsys.readouterr().err
    assert "has 3 faults" in err
    for line in ("los: unknown key. Did you mean 'loss'?", "datasets.tran: unknown key. Did you mean 'train'?"):
        assert line in err
    assert "arguments.epochs: unknown key" in err


def test_what_is_no_file(tmp_path, capsys):
    assert main(["train", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "none.yaml"), "--set", "seed"]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err


# -- the curve ---------------------------------------------------------------------------------------------------------


def pixels_of(picture, colour):
    return np.argwhere((np.asarray(picture) == colour).all(axis=-1))[:, ::-1]


def test_the_curve_is_where_the_loss_is():
    rows = [{"step": step, "loss": 4.0 - step / 10} for step in range(1, 31)]
    rows += [{"step": step, "eval_loss": 2.0} for step in (10, 20, 30)] + [{"step": 30, "train_loss": 99.0}]
    (panel,) = made = _curve.panels(rows)
    assert (panel.up.low, panel.up.high) == (pytest.approx(1 - 2.9 * 0.06), pytest.approx(3.9 + 2.9 * 0.06))
    picture = _curve.draw(made, "a title")
    assert picture.size == (_curve.WIDTH, panel.up.start + 56)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    again = Image.open(buffer)
    # The smoothed line begins at the first loss; the constant evaluation loss is level.
    assert again.getpixel(tuple(map(round, panel.point(1, 3.9)))) == _curve.COLOURS[0]
    for step in (10, 15, 25, 30):
        x, y = panel.point(step, 2.0)
        assert again.getpixel((min(round(x), 931), round(y))) == _curve.COLOURS[1]
    # A falling loss falls from left to right, outside of the legend.
    line = pixels_of(again, _curve.COLOURS[0])
    line = line[line[:, 0] < 700]
    left, right = line[line[:, 0] < 200][:, 1].mean(), line[line[:, 0] > 600][:, 1].mean()
    assert left < right
    for step, value in _curve.smoothed([(row["step"], row["loss"]) for row in rows if "loss" in row])[:20]:
        x, y = panel.point(step, value)
        near = line[np.abs(line[:, 0] - x) <= 2]
        assert np.abs(near[:, 1] - y).min() <= 2


def test_metrics_have_axes_of_their_own():
    rows = [{"step": step, "loss": 1.0, "eval_acc": step / 10, "eval_other": 3} for step in range(5)]
    losses, metrics = made = _curve.panels(rows, ["eval_acc"])
    assert [line.name for line in metrics.series] == ["acc"]
    assert metrics.up.stop > losses.up.start
    picture = _curve.draw(made, "ünï 漢字")
    assert picture.getpixel(tuple(map(round, metrics.point(2, 0.2)))) == _curve.COLOURS[0]


def test_curves_of_little_and_of_odd_numbers():
    for rows in ([], [{"step": 1, "loss": 0.0}], [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 1e9}]):
        assert _curve.draw(_curve.panels(rows), "").size[0] == _curve.WIDTH


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3, 12, [0, 5, 10]), (0.912, 0.9205, [0.912, 0.914, 0.916, 0.918, 0.92])],
)
def test_ticks_are_round(low, high, ticks):
    assert _curve.Axis(low, high, 0, 1).ticks() == pytest.approx(ticks)
