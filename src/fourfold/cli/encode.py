"""``fourfold encode``: a file of texts becomes a file of vectors."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from fourfold.cli._options import Argument, Option
from fourfold.cli._say import say
from fourfold.cli._spool import Spool, fingerprint
from fourfold.cli._texts import TextFile
from fourfold.errors import InputError, require

# A window is what the engine may reorder by length: wide enough to fill its batches, small enough to bound memory and
# to lose little when a run is killed.
WINDOW_ROWS = 4096
WINDOW_CHARACTERS = 16_000_000


def encode(
    file: Annotated[Path, Argument(help="one text a line; or .jsonl, .csv, .tsv; each also as .gz")],
    *,
    output: Annotated[Path, Option("--output", "-o", help="file to write: .npy, or .parquet for texts and vectors")],
    field: Annotated[str, Option("--field", help="key or column of the text in .jsonl, .csv and .tsv")] = "text",
    model: Annotated[str | None, Option("--model", "-m", help="model folder or hub name; default: built in")] = None,
    batch_size: Annotated[int, Option("--batch-size", help="texts a batch", min=1)] = 32,
    normalize: Annotated[bool, Option("--normalize", help="scale each vector to length 1")] = False,
    prompt_name: Annotated[str | None, Option("--prompt-name", help="the model's prompt to put first")] = None,
) -> None:
    """Turn a file of texts into a .npy or .parquet file of vectors.

    Memory use does not grow with the file. A run that was stopped, even killed, goes on where it was when the same
    command is given again; the output appears under its name only when it is whole.

    Examples:
      fourfold encode sentences.txt -o vectors.npy
      fourfold encode reviews.jsonl.gz --field body --model all-MiniLM-L6-v2 -o reviews.parquet
    """
    if output.suffix not in (".npy", ".parquet"):
        raise InputError(f"--output must end in .npy or .parquet, got {str(output)!r}")
    if output.suffix == ".parquet":
        require("pyarrow", "parquet", "Writing .parquet")
    texts = TextFile(file, field)

    import fourfold

    encoder = fourfold.load(model)
    settings = {"normalize_embeddings": normalize, "prompt_name": prompt_name}
    started = time.monotonic()
    with Spool(output, _fingerprint(texts, encoder, settings)) as spool:
        if spool.rows:
            say(f"continuing after {spool.rows:,} texts")
        _fill(spool, texts, encoder, {"batch_size": batch_size, **settings})
        if not spool.rows:
            raise InputError(f"{file} holds no texts")
        spool.finish()
        if output.suffix == ".parquet":
            _write_parquet(spool, texts, output)
        else:
            spool.part.replace(output)
        spool.forget()
    say(f"{spool.rows:,} texts x {spool.width} -> {output} in {time.monotonic() - started:.1f} s")


def _fill(spool: Spool, texts: TextFile, encoder: Any, settings: dict[str, Any]) -> None:
    """Encode the texts that the spool does not hold yet."""
    from tqdm import tqdm

    # disable=None: the bar is for a terminal, and stays out of logs.
    with tqdm(total=texts.size, unit="B", unit_scale=True, desc=texts.path.name, disable=None) as bar:
        for window in _windows(itertools.islice(texts, spool.rows, None)):
            spool.append(encoder.encode(window, show_progress_bar=False, **settings))
            bar.set_postfix_str(f"{spool.rows:,} texts", refresh=False)
            bar.update(texts.position() - bar.n)


def _windows(texts: Iterable[str]) -> Iterator[list[str]]:
    window: list[str] = []
    characters = 0
    for text in texts:
        window.append(text)
        characters += len(text)
        if len(window) >= WINDOW_ROWS or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def _fingerprint(texts: TextFile, encoder: Any, settings: dict[str, Any]) -> str:
    from fourfold import __version__

    # batch_size is left out: it changes the speed, not the vectors.
    return fingerprint(__version__, texts.field, texts.kind, encoder.fingerprint, settings, file=texts.path)


def _write_parquet(spool: Spool, texts: TextFile, output: Path) -> None:
    """Write texts and vectors side by side, one row group a window."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text_column = "text" if texts.field == "embedding" else texts.field
    schema = pa.schema([(text_column, pa.string()), ("embedding", pa.list_(pa.float32(), spool.width))])
    temporary = output.with_name(f"{output.name}.writing")
    try:
        # No dictionary: hardly a number or a text comes twice.
        with pq.ParquetWriter(temporary, schema, use_dictionary=False) as writer:
            for window, block in spool.beside(_windows(texts)):
                columns = [pa.array(window, pa.string()), pa.FixedSizeListArray.from_arrays(block, spool.width)]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
