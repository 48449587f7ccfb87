"""Find out how a model runs best on this machine, by trying it, and remember the answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.backends.static import StaticBackend
from fourfold.errors import FourfoldError, InputError, installed, require
from fourfold.exporting import calibration
from fourfold.exporting.folder import export, model_of
from fourfold.families.load import FAMILIES, family_of
from fourfold.metrics.correlation import pearson
from fourfold.runtimes import KINDS
from fourfold.store.choices import Choice, home, remember
from fourfold.store.fingerprint import fingerprint
from fourfold.store.source import Source, locate

# Tokens of a batch, padding included, that graphs are tried with.
_TOKENS = (256, 512, 1024, 2048)
# What another precision must share with float32 of every text to be taken.
LEAST = 0.99


@dataclass(frozen=True)
class Candidate:
    """One way of running a model.

    Attributes:
        backend: ``torch``, ``static``, ``onnx`` or ``openvino``.
        precision: ``float32``, ``bfloat16`` or ``int8``.
        options: Arguments of ``fourfold.load``.
    """

    backend: str
    precision: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def stored(self) -> str:
        """Precision of the graph's file: bfloat16 is a way of running one of float32."""
        return "int8" if self.precision == "int8" else "float32"


@dataclass(frozen=True)
class Trial:
    """What came of a candidate.

    Attributes:
        candidate: The candidate.
        speed: Texts a second.
        latency: Seconds of one text alone.
        load: Seconds until the model was there, the imports included.
        memory: MB at most, above those of the process before; None where the system does not tell.
        least: Least agreement of a text with float32 on torch: cosine of vectors; of scores, their correlation.
        mean: Mean agreement.
        tokens: Tokens of a batch with which it was fastest; None where it is not tried.
        failed: Why it could not be run; empty if it could.
    """

    candidate: Candidate
    speed: float = 0.0
    latency: float = 0.0
    load: float = 0.0
    memory: float | None = None
    least: float = 0.0
    mean: float = 0.0
    tokens: int | None = None
    failed: str = ""


def candidates(source: Source) -> list[Candidate]:
    """Return the ways of running a model that it and the installed packages offer, float32 on torch first."""
    found = [Candidate("torch", "float32"), Candidate("torch", "bfloat16", {"dtype": "bfloat16"})]
    if StaticBackend.fits(source):
        found.append(Candidate("static", "float32"))
    if installed("onnxruntime"):
        found += [Candidate("onnx", "float32"), Candidate("onnx", "int8")]
    if installed("openvino"):
        hint = "INFERENCE_PRECISION_HINT"
        found += [
            Candidate("openvino", "float32", {"model_kwargs": {"ov_config": {hint: "f32"}}}),
            Candidate("openvino", "bfloat16", {"model_kwargs": {"ov_config": {hint: "bf16"}}}),
        ]
    if installed("openvino") and installed("nncf"):
        found.append(Candidate("openvino", "int8"))
    return found


def tune(
    name: str,
    texts: Sequence[str] | None = None,
    *,
    family: str | None = None,
    least: float = LEAST,
    told: Callable[[Trial], object] = lambda trial: None,
) -> tuple[list[Trial], Choice]:
    """Try every way of running a model that this machine offers, and remember the fastest that keeps its numbers.

    ``fourfold.load`` with ``backend="auto"`` takes it from then on. Its graphs are kept in the cache.

    Args:
        name: Folder or hub name.
        texts: Texts like those that the model will read; None is some that come with fourfold.
        family: ``dense``, ``sparse`` or ``cross``; None is what the folder says.
        least: Least agreement with float32 on torch that a choice must have.
        told: Called with each trial as it ends.

    Returns:
        All trials, and the choice.

    Raises:
        InputError: If float32 on torch does not run.
        MissingExtraError: If torch is not installed.
    """
    require("torch", "torch", "fourfold tune")
    source = Source(locate(name, FAMILIES[family or "dense"][1])).pinned()
    family = family or family_of(source)
    samples = calibration.texts(texts)
    graphs = home() / "graphs" / fingerprint(source)
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="fourfold-tune-") as scratch:
        reference: NDArray[Any] | None = None
        for candidate, folder in _prepared(source, family, samples, graphs):
            if isinstance(folder, str):
                trials.append(Trial(candidate, failed=folder))
            else:
                trial, output = _tried(candidate, folder, family, samples, Path(scratch))
                if reference is None and output is None:
                    raise InputError(f"{name} does not run in float32 on torch: {trial.failed}")
                reference = output if reference is None else reference
                trials.append(_compared(trial, output, reference, family))
            told(trials[-1])
    best = max((trial for trial in trials if not trial.failed and trial.least >= least), key=lambda trial: trial.speed)
    choice = _choice(best, graphs)
    _clean(graphs, choice)
    remember(source, choice)
    return trials, choice


def _prepared(
    source: Source, family: str, samples: Sequence[str], graphs: Path
) -> Iterator[tuple[Candidate, Path | str]]:
    """Yield each candidate with the folder that it runs, exported if need be, or with why there is none."""
    model: Any = None
    failed: dict[str, str] = {}
    for candidate in candidates(source):
        kind, place = candidate.backend, graphs / f"{candidate.backend}-{candidate.stored}"
        if kind not in KINDS:
            yield candidate, source.folder() or Path(source.name)
            continue
        if kind not in failed and not (place / kind / "whole.json").is_file():
            try:
                model = model_of(source.name, family) if model is None else model
                export(model, place, kind, whole=True, precision=candidate.stored, texts=samples)
            except FourfoldError as error:
                failed[kind] = str(error)
        yield candidate, failed.get(kind, place)


def _tried(
    candidate: Candidate, folder: Path, family: str, samples: Sequence[str], scratch: Path
) -> tuple[Trial, NDArray[Any] | None]:
    output = scratch / f"{candidate.backend}-{candidate.precision}.npy"
    request = {
        "folder": str(folder), "family": family, "backend": candidate.backend, "options": candidate.options,
        "texts": list(samples), "tokens": list(_TOKENS) if candidate.backend in KINDS else [], "output": str(output),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "fourfold.exporting._trial"], input=json.dumps(request), capture_output=True, text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
        return Trial(candidate, failed=lines[-1]), None
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return Trial(candidate, **found), np.load(output)


def _compared(trial: Trial, output: NDArray[Any] | None, reference: NDArray[Any] | None, family: str) -> Trial:
    if output is None or reference is None:
        return trial
    if family == "cross":
        agreement = np.array([pearson(output.ravel(), reference.ravel())])
    else:
        lengths = np.linalg.norm(output, axis=1) * np.linalg.norm(reference, axis=1)
        agreement = (output * reference).sum(1) / np.maximum(lengths, 1e-12)
    return replace(trial, least=float(agreement.min()), mean=float(agreement.mean()))


def _choice(best: Trial, graphs: Path) -> Choice:
    candidate = best.candidate
    if candidate.backend not in KINDS:
        return Choice(candidate.backend, None, candidate.options)
    folder = graphs / f"{candidate.backend}-{candidate.stored}"
    options = {**candidate.options.get("model_kwargs", {}), "best_tokens": best.tokens}
    options["compile_cache"] = str(folder / "compiled")
    return Choice(candidate.backend, str(folder), {"model_kwargs": options})


def _clean(graphs: Path, choice: Choice) -> None:
    """Remove the graphs that were not chosen."""
    for folder in graphs.iterdir() if graphs.is_dir() else ():
        if str(folder) != choice.folder:
            shutil.rmtree(folder, ignore_errors=True)
