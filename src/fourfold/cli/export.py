"""``fourfold export``: write a model as graphs that ONNX and OpenVINO run."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from fourfold.cli._options import Argument, Option
from fourfold.errors import InputError, require

# More texts show a layer hardly any new number, and each runs through the whole model.
_MOST = 300


def export(
    model: Annotated[str, Argument(help="model folder or hub name")],
    folder: Annotated[Path, Argument(help="where to write; made if need be")],
    *,
    format: Annotated[  # noqa: A002 - the word for it
        Literal["onnx", "openvino"], Option("--format", "-f", help="which runtime the graphs are for")
    ] = "onnx",
    whole: Annotated[
        bool, Option("--whole", help="one graph from token ids to the model's output, which needs no torch to run")
    ] = False,
    int8: Annotated[bool, Option("--int8", help="weights and activations in 8 bits")] = False,
    float16: Annotated[bool, Option("--float16", help="weights in 16 bits")] = False,
    calibrate: Annotated[
        Path | None,
        Option("--calibrate", help="texts like yours, for --int8 of openvino: one a line, or .jsonl, .csv, .tsv"),
    ] = None,
    family: Annotated[
        Literal["dense", "sparse", "cross"] | None, Option("--family", help="default: what the folder says")
    ] = None,
) -> None:
    """Write a model's folder with graphs in the place of torch weights.

    Without --whole the transformer alone becomes a graph, in the layout of published models:
    SentenceTransformer(folder, backend="onnx") loads it, and pooling stays with torch. With --whole
    fourfold.load(folder) needs neither torch nor transformers, and whole.json says what other programs feed the graph.

    Examples:
      fourfold export sentence-transformers/all-MiniLM-L6-v2 minilm-onnx --whole
      fourfold export BAAI/bge-small-en-v1.5 bge-int8 --format openvino --whole --int8 --calibrate questions.txt
    """
    if int8 and float16:
        raise InputError("--int8 and --float16 exclude each other; give one")
    if calibrate is not None and not int8:
        raise InputError("--calibrate is for --int8; give both")
    require("torch", "torch", "fourfold export")
    texts = None if calibrate is None else _texts(calibrate)
    import fourfold
    from fourfold.exporting.folder import model_of

    precision = "int8" if int8 else "float16" if float16 else "float32"
    fourfold.export(model_of(model, family), folder, format, whole=whole, precision=precision, texts=texts)
    sys.stdout.write(f"{folder}\n")


def _texts(path: Path) -> list[str]:
    from fourfold.cli._texts import TextFile

    return [text for text in islice(TextFile(path), _MOST) if text.strip()]
