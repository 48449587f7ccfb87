"""``fourfold chunk``: long texts become chunks that fit a model, as JSON Lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from fourfold.cli._options import Argument, Option
from fourfold.errors import InputError

_UNITS = "tokens, special tokens included"


def chunk(
    files: Annotated[list[Path], Argument(help="texts in UTF-8, one a file; - is the standard input")],
    *,
    size: Annotated[int | None, Option("--size", "-s", help=f"most {_UNITS}; default: what the model takes")] = None,
    overlap: Annotated[int, Option("--overlap", help="most tokens that a chunk repeats of the one before", min=0)] = 0,
    model: Annotated[str | None, Option("--model", "-m", help="model folder or hub name; default: built in")] = None,
    characters: Annotated[bool, Option("--characters", help="count characters instead of tokens")] = False,
) -> None:
    """Cut long texts into chunks, one JSON object a line: file, start, stop, tokens, text.

    start and stop count characters. Chunks end at paragraphs, sentences or words. Only the model's tokenizer is read,
    so that this needs no torch.

    Examples:
      fourfold chunk book.txt --size 256 --overlap 32
      fourfold chunk *.txt -m all-MiniLM-L6-v2 > chunks.jsonl
      fourfold encode chunks.jsonl -m all-MiniLM-L6-v2 -o vectors.npy
    """
    if characters and model is not None:
        raise InputError("--characters counts characters, so --model has no meaning; give either")
    tokenizer = None
    if not characters:
        from fourfold.cli._folder import tokenizer_of

        tokenizer, longest = tokenizer_of(model)
        size = longest if size is None else size
    if size is None:
        raise InputError("--size is needed: nothing else limits a chunk")

    from fourfold.text import split

    for file in files:
        text = _read(file)
        for piece in split(text, size=size, overlap=overlap, tokenizer=tokenizer):
            row = {"file": str(file), "start": piece.start, "stop": piece.stop, "tokens": piece.tokens}
            if piece.tokens is None:
                del row["tokens"]
            sys.stdout.write(json.dumps({**row, "text": piece.text}, ensure_ascii=False) + "\n")


def _read(file: Path) -> str:
    raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text: byte {raw[error.start]:#04x} cannot be read") from None
