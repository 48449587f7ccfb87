"""Batches are made while the step before them runs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_END = object()


class Ahead:
    """The items of an iterator, each fetched by a thread while its predecessor is used.

    The order is the iterator's, and never more than one item waits. An error of the iterator is raised where its item
    would have come.

    Args:
        items: What is iterated.
    """

    def __init__(self, items: Iterator[Any]) -> None:
        self.items = items
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._next: Future[Any] | None = None
        self._ended = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._ended:
            raise StopIteration
        item = (self._next or self._fetch()).result()
        if item is _END:
            self.close()
            raise StopIteration
        self._next = self._fetch()
        return item

    def _fetch(self) -> Future[Any]:
        return self._pool.submit(next, self.items, _END)

    def close(self) -> None:
        """Give no more items, and let the thread end after the one that it is at."""
        self._ended = True
        self._pool.shutdown(wait=False, cancel_futures=True)
