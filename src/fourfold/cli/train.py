"""``fourfold train``: a training from a file, with a bar, the curve of its loss, and numbers before and after."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fourfold.cli._options import Argument, Option
from fourfold.cli._say import say
from fourfold.errors import InputError, require_training

if TYPE_CHECKING:
    from fourfold.training.config import Plan, TrainingConfig


def train(
    config: Annotated[Path, Argument(help="a file of YAML with model, datasets, loss, arguments and evaluators")],
    *,
    output: Annotated[
        Path | None, Option("--output", "-o", help="folder to write; in place of arguments.output_dir")
    ] = None,
    settings: Annotated[
        list[str] | None,
        Option("--set", metavar="KEY=VALUE", help="in place of the file's: arguments.num_train_epochs=2; repeatable"),
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="check everything, compute the loss of one batch, and train nothing")
    ] = False,
    resume: Annotated[bool, Option("--resume", help="go on from the last checkpoint of the output folder")] = False,
) -> None:
    """Train a dense, sparse or cross encoder as a file says.

    Everything that can be wrong is looked at before the first step, and all that is wrong is told at once. The trained
    model goes to OUTPUT/final, the curve of its loss to OUTPUT/loss.png, what was logged to OUTPUT/log.jsonl.

    A small file:
      model: all-MiniLM-L6-v2
      datasets: {train: {path: pairs.csv, columns: [sentence1, sentence2, score]}}
      loss: CoSENTLoss
      arguments: {output_dir: out, num_train_epochs: 1, per_device_train_batch_size: 32}

    Examples:
      fourfold train sts.yaml --dry-run
      fourfold train sts.yaml --set arguments.learning_rate=2e-5 -o out/slower
      fourfold train sts.yaml --resume
    """
    require_training("fourfold train")
    from fourfold.training.config import build, parse_override, plan, read_config

    overrides = dict(parse_override(text) for text in settings or ())
    if output is not None:
        overrides["arguments.output_dir"] = str(output)
    with _quiet():
        read = read_config(config, overrides)
        if resume:
            _check_resumable(read)
        trainer = build(read)
        if dry_run:
            _show_plan(read, plan(trainer), trainer)
        else:
            _train(read, trainer, resume=resume)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries below from telling, inside the block, what the command tells itself."""
    import datasets
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    data_bars = datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if not data_bars:
            datasets.enable_progress_bars()


def _check_resumable(read: TrainingConfig) -> None:
    from fourfold.training._checkpoints import last_whole

    try:
        last_whole(read.output_dir)
    except InputError:
        raise InputError(f"--resume: {read.output_dir} holds no whole checkpoint; leave --resume out") from None


def _show_plan(read: TrainingConfig, made: Plan, trainer: Any) -> None:
    lines = [f"model       {read.model} ({read.family}, on {trainer.model.device})"]
    for name, rows in made.rows.items():
        lines.append(f"train       {f'{name}: ' if name else ''}{rows:,} rows of {', '.join(made.columns[name])}")
    lines += [f"loss        {f'{name}: ' if name else ''}{loss}" for name, loss in made.losses.items()]
    lines += [f"evaluator   {spec.cls.__name__} {spec.options.get('name', '')}".rstrip() for spec in read.evaluators]
    lines += [
        f"steps       {made.steps:,} of {made.batch_size} rows, {made.epochs:.3g} epochs",
        f"first loss  {made.first_loss:.4f}",
        f"output      {read.output_dir}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    say("everything fits; nothing was trained")


def _train(read: TrainingConfig, trainer: Any, *, resume: bool) -> None:
    from fourfold.cli._training_bar import primary_of, show_on

    main_process = trainer.is_world_process_zero()
    bar = show_on(trainer)
    _notice_earlier(read, resume)
    before = _measured(trainer)
    started = time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=True if resume else None)
        after = _after(trainer, before)
        final = read.output_dir / "final"
        trainer.save_model(str(final))
    except KeyboardInterrupt:
        bar.close()
        say(_how_to_go_on(read))
        raise
    if not main_process:
        return
    rows = [{"step": 0, "epoch": 0.0, **{_prefixed(key): value for key, value in before.items()}}] if before else []
    rows += trainer.state.log_history
    curve, log = read.output_dir / "loss.png", read.output_dir / "log.jsonl"
    _write(rows, curve, log, _title(read, trainer), primary_of(trainer))
    sys.stdout.write(_table(before, after))
    steps = trainer.state.global_step
    say(f"{steps:,} steps in {time.monotonic() - started:.1f} s; model -> {final}, curve -> {curve}, log -> {log}")


def _notice_earlier(read: TrainingConfig, resume: bool) -> None:
    if not resume and any(read.output_dir.glob("checkpoint-*")):
        say(f"{read.output_dir} holds checkpoints of an earlier training; --resume would go on from the last one")


def _how_to_go_on(read: TrainingConfig) -> str:
    if any(read.output_dir.glob("checkpoint-*")):
        return f"stopped; the same command with --resume goes on from the last checkpoint in {read.output_dir}"
    return "stopped before the first checkpoint, nothing is saved; arguments.save_steps says how often there is one"


# -- measuring ---------------------------------------------------------------------------------------------------------


def _measured(trainer: Any) -> dict[str, float]:
    """Return what the evaluators say of the model now."""
    if trainer.evaluator is None:
        return {}
    from fourfold.training import _evaluating

    return _numbers({key.removeprefix("eval_"): value for key, value in _evaluating.metrics(trainer, "eval").items()})


def _after(trainer: Any, before: Mapping[str, float]) -> dict[str, float]:
    """Return the same numbers of the trained model; those of the last step are not measured twice."""
    if not trainer.args.load_best_model_at_end:
        for row in reversed(trainer.state.log_history):
            if row.get("step") == trainer.state.global_step and all(_prefixed(key) in row for key in before):
                return {key: row[_prefixed(key)] for key in before}
    return _measured(trainer)


def _prefixed(key: str) -> str:
    return f"eval_{key}"


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in found.items() if isinstance(value, (int, float))}


# -- telling -----------------------------------------------------------------------------------------------------------


def _write(rows: Sequence[Mapping[str, Any]], curve: Path, log: Path, title: str, metrics: Sequence[str]) -> None:
    from fourfold.cli import _curve
    from fourfold.cli._drawing import save
    from fourfold.store.files import write_bytes

    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_bytes(log, "".join(lines).encode())
    save(_curve.draw(_curve.panels(rows, metrics), title), curve)


def _title(read: TrainingConfig, trainer: Any) -> str:
    return f"{Path(read.model).name}: {trainer.state.global_step:,} steps"


def _table(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Return the numbers before and after the training, and how much they changed."""
    from fourfold.cli._table import fit, width

    if not before:
        return ""
    column = max(map(width, [*before, "metric"]))
    lines = [f"{fit('metric', column)}  {'before':>10}  {'after':>10}  {'change':>10}"]
    for key, value in before.items():
        now = after.get(key, float("nan"))
        lines.append(f"{fit(key, column)}  {value:>10.4f}  {now:>10.4f}  {now - value:>+10.4f}")
    return "\n".join(lines) + "\n"
