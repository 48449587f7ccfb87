"""``fourfold tune``: find out how a model runs best on this machine."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from fourfold.cli._options import Argument, Option
from fourfold.errors import InputError

_MOST = 300
_HEAD = ("backend", "precision", "texts/s", "one text", "load", "memory", "least", "mean")


def tune(
    model: Annotated[str, Argument(help="model folder or hub name")],
    *,
    texts: Annotated[
        Path | None, Option("--texts", help="texts like yours: one a line, or .jsonl, .csv, .tsv; the first 300 count")
    ] = None,
    least: Annotated[
        float, Option("--least", help="least agreement with float32 on torch, by the cosine of each text's vectors")
    ] = 0.99,
    family: Annotated[
        Literal["dense", "sparse", "cross"] | None, Option("--family", help="default: what the folder says")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="print JSON")] = False,
) -> None:
    """Try the backends, precisions and batch sizes that this machine offers for a model, and remember the best.

    fourfold.load(model), and every command that takes a model, use it from then on; load(model, backend="torch") does
    not. Each is tried in a process of its own, which takes some minutes. Without --texts a few that come with fourfold
    are read.

    Examples:
      fourfold tune sentence-transformers/all-MiniLM-L6-v2 --texts questions.txt
      fourfold tune ./my-model --least 0.999
    """
    if not 0 <= least <= 1:
        raise InputError(f"--least must be from 0 to 1, got {least}")
    from fourfold.cli._texts import TextFile
    from fourfold.exporting.tune import tune as tried

    given = None if texts is None else [text for text in islice(TextFile(texts), _MOST) if text.strip()]
    show = None if as_json else _shown
    if show is not None:
        sys.stdout.write(_line(_HEAD))
    trials, choice = tried(model, given, family=family, least=least, told=show or (lambda trial: None))
    if as_json:
        value = {"trials": [asdict(trial) for trial in trials], "choice": asdict(choice)}
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
        return
    tokens = choice.options.get("model_kwargs", {}).get("best_tokens")
    batch = f", {tokens} tokens a batch" if tokens else ""
    where = f", in {choice.folder}" if choice.folder else ""
    sys.stdout.write(f"\nfourfold.load({model!r}) runs on {choice.backend} from now on{batch}{where}\n")


def _shown(trial: Any) -> None:
    made = trial.candidate
    if trial.failed:
        sys.stdout.write(f"{made.backend:<10}{made.precision:<10} cannot: {trial.failed}\n")
    else:
        memory = "" if trial.memory is None else f"{trial.memory:,.0f} MB"
        values = (f"{trial.speed:.1f}", f"{1e3 * trial.latency:.1f} ms", f"{trial.load:.1f} s", memory)
        sys.stdout.write(_line((made.backend, made.precision, *values, f"{trial.least:.4f}", f"{trial.mean:.4f}")))
    sys.stdout.flush()


def _line(values: tuple[str, ...]) -> str:
    first, second, *rest = values
    return f"{first:<10}{second:<10}" + "".join(f"{value:>11}" for value in rest) + "\n"
