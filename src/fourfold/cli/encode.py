"""``fourfold encode``: a file of texts becomes a file of vectors, or of sparse rows."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fourfold.cli._options import Argument, Option
from fourfold.cli._say import say
from fourfold.cli._spool import DenseSpool, SparseSpool, Spool, fingerprint, written
from fourfold.cli._texts import TextFile
from fourfold.errors import InputError, require

# A window is what the engine may reorder by length: wide enough to fill its batches, small enough to bound memory and
# to lose little when a run is killed.
WINDOW_ROWS = 4096
WINDOW_CHARACTERS = 16_000_000

_DENSE, _SPARSE = (".npy", ".parquet"), (".npz", ".jsonl")


def encode(
    file: Annotated[Path, Argument(help="one text a line; or .jsonl, .csv, .tsv; each also as .gz")],
    *,
    output: Annotated[
        Path, Option("--output", "-o", help="file to write: .npy or .parquet; of a sparse model .npz or .jsonl")
    ],
    field: Annotated[str, Option("--field", help="key or column of the text in .jsonl, .csv and .tsv")] = "text",
    model: Annotated[str | None, Option("--model", "-m", help="model folder or hub name; default: built in")] = None,
    batch_size: Annotated[int, Option("--batch-size", help="texts a batch", min=1)] = 32,
    normalize: Annotated[bool, Option("--normalize", help="scale each vector to length 1")] = False,
    prompt_name: Annotated[str | None, Option("--prompt-name", help="the model's prompt to put first")] = None,
    role: Annotated[
        Literal["query", "document"] | None,
        Option("--as", help="what the texts are, where the model has a prompt or a route for it"),
    ] = None,
    max_active_dims: Annotated[
        int | None, Option("--max-active-dims", help="of a sparse model: keep only so many weights of a text", min=1)
    ] = None,
) -> None:
    """Turn a file of texts into a file of vectors.

    A dense model writes .npy, or .parquet with the texts beside their vectors; a sparse one .npz, which
    scipy.sparse.load_npz reads, or .jsonl with the weights of each text by token.

    Memory use does not grow with the file. A run that was stopped, even killed, goes on where it was when the same
    command is given again; the output appears under its name only when it is whole.

    Examples:
      fourfold encode sentences.txt -o vectors.npy
      fourfold encode reviews.jsonl.gz --field body --model all-MiniLM-L6-v2 -o reviews.parquet
      fourfold encode passages.txt --model naver/splade-v3 --as document -o passages.npz
    """
    if output.suffix not in (*_DENSE, *_SPARSE):
        raise InputError(f"--output must end in {_listed((*_DENSE, *_SPARSE))}, got {str(output)!r}")
    if output.suffix == ".parquet":
        require("pyarrow", "parquet", "Writing .parquet")
    texts = TextFile(file, field)

    import fourfold

    encoder = fourfold.load(model)
    sparse = _check_family(encoder, output, max_active_dims)
    settings: dict[str, Any] = {"normalize_embeddings": normalize, "prompt_name": prompt_name}
    settings.update({key: value for key, value in (("as", role), ("most", max_active_dims)) if value is not None})
    fingerprinted = _fingerprint(texts, encoder, settings)
    started = time.monotonic()
    spool: Spool
    with (SparseSpool if sparse else DenseSpool)(output, fingerprinted) as spool:
        if spool.rows:
            say(f"continuing after {spool.rows:,} texts")
        _fill(spool, texts, _encoding(encoder, sparse, batch_size, settings))
        if not spool.rows:
            raise InputError(f"{file} holds no texts")
        spool.finish()
        _write(spool, texts, output, encoder, model)
        spool.forget()
    say(f"{spool.rows:,} texts x {spool.width} -> {output} in {time.monotonic() - started:.1f} s")


def _check_family(encoder: Any, output: Path, max_active_dims: int | None) -> bool:
    """Return whether the model is sparse; raise InputError if it cannot write such a file."""
    from fourfold.search.encoders import is_sparse

    sparse = is_sparse(encoder)
    kind, known = ("sparse", _SPARSE) if sparse else ("dense", _DENSE)
    if output.suffix not in known:
        raise InputError(f"the model is {kind}: --output must end in {_listed(known)}, got {str(output)!r}")
    if max_active_dims is not None and not sparse:
        raise InputError("--max-active-dims is for sparse models; this one is dense")
    return sparse


def _encoding(encoder: Any, sparse: bool, batch_size: int, settings: dict[str, Any]) -> Callable[[list[str]], Any]:
    """Return what encodes a window of texts."""
    encode = getattr(encoder, f"encode_{settings['as']}" if "as" in settings else "encode")
    options: dict[str, Any] = {"batch_size": batch_size, "show_progress_bar": False}
    if settings["prompt_name"] is not None:
        options["prompt_name"] = settings["prompt_name"]
    if not sparse:
        return lambda window: encode(window, normalize_embeddings=settings["normalize_embeddings"], **options)
    from fourfold.ops.terms import normalized

    if "most" in settings:
        options["max_active_dims"] = settings["most"]
    finish = normalized if settings["normalize_embeddings"] else _as_it_is
    return lambda window: finish(encode(window, **options))


def _as_it_is(rows: Any) -> Any:
    return rows


def _write(spool: Spool, texts: TextFile, output: Path, encoder: Any, model: str | None) -> None:
    """Write the finished file from the spool."""
    if isinstance(spool, SparseSpool):
        from fourfold.cli import _sparse_files

        if output.suffix == ".npz":
            _sparse_files.write_npz(spool, output)
        else:
            from fourfold.cli._terms import names_of

            _sparse_files.write_jsonl(spool, texts, output, names_of(encoder, str(model)))
    elif isinstance(spool, DenseSpool):
        if output.suffix == ".parquet":
            _write_parquet(spool, texts, output)
        else:
            spool.part.replace(output)


def _listed(suffixes: Sequence[str]) -> str:
    return f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"


def _fill(spool: Spool, texts: TextFile, encode: Callable[[list[str]], Any]) -> None:
    """Encode the texts that the spool does not hold yet."""
    from tqdm import tqdm

    # disable=None: the bar is for a terminal, and stays out of logs.
    with tqdm(total=texts.size, unit="B", unit_scale=True, desc=texts.path.name, disable=None) as bar:
        for window in _windows(itertools.islice(texts, spool.rows, None)):
            spool.append(encode(window))
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


def _write_parquet(spool: DenseSpool, texts: TextFile, output: Path) -> None:
    """Write texts and vectors side by side, one row group a window."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text_column = "text" if texts.field == "embedding" else texts.field
    schema = pa.schema([(text_column, pa.string()), ("embedding", pa.list_(pa.float32(), spool.width))])
    # No dictionary: hardly a number or a text comes twice.
    with written(output) as temporary, pq.ParquetWriter(temporary, schema, use_dictionary=False) as writer:
        for window, block in spool.beside(_windows(texts)):
            columns = [pa.array(window, pa.string()), pa.FixedSizeListArray.from_arrays(block, spool.width)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
