"""BibTeX of the methods, as model cards show it."""

from __future__ import annotations


def entry(kind: str, key: str, **fields: object) -> str:
    """Return a BibTeX entry.

    >>> print(entry("misc", "me2020", title="A title", year=2020))
    @misc{me2020,
        title = "A title",
        year = "2020",
    }
    """
    lines = [f'    {name} = "{value}",' for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def article(key: str, arxiv: str, year: int, title: str, author: str, primary: str) -> str:
    """Return the entry of a paper on arXiv.

    Args:
        key: Name of the entry.
        arxiv: Number there.
        year: When it appeared.
        title: Its title.
        author: Its authors, with ``and`` between them.
        primary: Its class there, such as ``cs.CL``.
    """
    return entry(
        "misc", key, title=title, author=author, year=year, eprint=arxiv, archivePrefix="arXiv", primaryClass=primary
    )
