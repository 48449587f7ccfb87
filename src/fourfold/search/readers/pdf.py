"""PDF: the text of each page, whose number stands for the line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from fourfold.search.readers._base import Block, Unreadable

SUFFIXES = (".pdf",)


def read(path: Path) -> Iterator[Block]:
    """Yield one block a page."""
    from pypdf import PdfReader

    # It reports every oddity of a file, and hardly any file is without some.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    with path.open("rb") as file:
        try:
            pages = PdfReader(file).pages
            count = len(pages)
        except Exception as error:
            # pypdf lets many kinds of error through on a broken file.
            raise Unreadable(f"it is no readable PDF ({error})") from error
        for index in range(count):
            try:
                text = pages[index].extract_text()
            except Exception:
                continue  # one broken page does not hide the others
            if text.strip():
                clean = text.replace("\0", " ").encode("utf-8", "replace").decode()
                yield Block(index + 1, " ".join(clean.split()), f"page {index + 1}")
