"""Files, in the older library's words: downloads, result tables, and the names that the hub keeps for old models."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fourfold.store.files import write_bytes
from fourfold.store.source import BARE_HUB_NAMES

ORIGINAL_TRANSFORMER_MODELS = sorted(BARE_HUB_NAMES)

_CHUNK = 2**16


def http_get(url: str, path: str) -> None:
    """Download an address into a file, which appears when it is complete; folders are made.

    Raises:
        OSError: If the server cannot be reached; the hub client's own HTTP error if it refuses.
    """
    from huggingface_hub.utils import get_session

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}_part")
    try:
        with get_session().stream("GET", url, follow_redirects=True, timeout=60) as response, part.open("wb") as file:
            response.raise_for_status()
            total = int(response.headers.get("content-length", 0)) or None
            with tqdm(total=total, unit="B", unit_scale=True) as bar:
                for chunk in response.iter_bytes(_CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def append_to_last_row(csv_path: str, additional_data: list[Any]) -> bool:
    """Add cells to the last row of a CSV file.

    Returns:
        True, or False if the file holds no row below its header; it is then left as it is.
    """
    with Path(csv_path).open(newline="", encoding="utf-8") as file:
        rows: list[list[Any]] = [row for row in csv.reader(file) if row]
    if len(rows) < 2:
        return False
    rows[-1].extend(additional_data)
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_bytes(Path(csv_path), text.getvalue().encode())
    return True
