"""Batches in which no value comes twice: rows that would repeat one wait, and are not looked at again in vain."""

from __future__ import annotations

import hashlib
import heapq
import importlib.util
import os
import pickle
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourfold.errors import MissingExtraError

_SCALARS = (str, int, float, bool, type(None))


def key_of(value: Any) -> str:
    """Return a text that two values share if they are the same, as far as that can be told.

    >>> key_of("a"), key_of([1, 2]), key_of([[1], [2, 3]])
    ('a', '[1, 2]', '[[1], [2, 3]]')
    """
    if isinstance(value, _SCALARS):
        return str(value)
    if isinstance(value, (list, tuple)):
        if all(isinstance(item, _SCALARS) for item in value):
            return str(value)
        return f"[{', '.join(map(key_of, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {key_of(item)}' for key, item in value.items())}}}"
    source = getattr(value, "_hf_encoded", None)  # decoders of sound and pictures know what they were made from
    try:
        return hashlib.sha256(pickle.dumps(value if source is None else source)).hexdigest()
    except Exception:
        return str(value)


class Values:
    """The values of each row of a dataset, read when they are asked for.

    Args:
        dataset: The rows.
        left_out: Columns that do not count.
    """

    def __init__(self, dataset: Any, left_out: Collection[str] = ()) -> None:
        self._dataset = dataset
        self._left_out = left_out

    def __getitem__(self, row: int) -> set[Hashable]:
        return {key_of(value) for name, value in self._dataset[row].items() if name not in self._left_out}


class Hashes(Values):
    """The hashes of the values of each row, ``[rows, columns]``."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self._hashes = hashes

    def __getitem__(self, row: int) -> set[Hashable]:
        return set(self._hashes[row].tolist())


def check_hashing() -> None:
    """Raise :class:`~fourfold.errors.MissingExtraError`, an ``ImportError``, if xxhash is missing."""
    if importlib.util.find_spec("xxhash") is None:
        raise MissingExtraError("no_duplicates_hashed needs the package xxhash: pip install xxhash")


def hashed(dataset: Any, left_out: Collection[str], processes: int | None, batch_size: int) -> Hashes:
    """Return the hashes of the values of all rows.

    Args:
        dataset: The rows.
        left_out: Columns that do not count.
        processes: How many compute them; None is all processors but one, eight at most.
        batch_size: Rows that a process takes at a time.
    """
    if processes is None:
        processes = max(1, min(8, (os.cpu_count() or 2) - 1))
    mapped = dataset.map(
        _hash_rows, batched=True, batch_size=batch_size, num_proc=processes if processes > 1 else None,
        remove_columns=dataset.column_names, desc="Hashing", fn_kwargs={"left_out": tuple(left_out)},
    )  # fmt: skip
    found = mapped.with_format("numpy")["hashes"]
    return Hashes(np.asarray(found, dtype=np.int64).view(np.uint64))


def _hash_rows(columns: dict[str, list[Any]], left_out: tuple[str, ...]) -> dict[str, list[list[int]]]:
    import xxhash

    def hash_of(value: Any) -> int:
        # Arrow keeps signed numbers.
        return int(np.uint64(xxhash.xxh64_intdigest(key_of(value).encode("utf-8", "surrogatepass"))).astype(np.int64))

    kept = [values for name, values in columns.items() if name not in left_out]
    return {"hashes": [[hash_of(value) for value in row] for row in zip(*kept, strict=True)]}


def one_pass(
    order: Sequence[int] | NDArray[np.int32], values: Values, batch_size: int, drop_last: bool
) -> Iterator[list[int]]:
    """Yield batches of rows without a value in common, each row at most once.

    A batch takes rows in order, leaving out those that share a value with it, which later batches take first. A row
    that was left out waits at the value that it shared; of all that wait at a value only the first can be taken next,
    so that the others are not looked at.

    Args:
        order: The rows in the order in which they are to come.
        values: What each row says.
        batch_size: Rows of a batch.
        drop_last: Whether to leave out batches that are not full.
    """
    waiting: dict[Hashable, list[int]] = {}  # by value, heaps of places in the order
    ready: list[int] = []  # a heap of places whose rows have waited and may be taken now
    waited_at: dict[int, Hashable] = {}  # of each of these, the value

    def release(value: Hashable) -> None:
        queue = waiting.get(value)
        if queue:
            place = heapq.heappop(queue)
            heapq.heappush(ready, place)
            waited_at[place] = value
            if not queue:
                del waiting[value]

    following = 0
    while ready or following < len(order):
        batch: list[int] = []
        taken: set[Hashable] = set()
        stopped: set[Hashable] = set()  # values of whose queues nothing may be taken before the next batch
        while len(batch) < batch_size and (ready or following < len(order)):
            if ready and ready[0] < following:
                place = heapq.heappop(ready)
            else:
                place, following = following, following + 1
            own, origin = values[int(order[place])], waited_at.pop(place, None)
            shared = next((value for value in own if value in taken), None)
            if shared is None:
                batch.append(int(order[place]))
                taken |= own
            else:
                heapq.heappush(waiting.setdefault(shared, []), place)
                stopped.add(shared)
            if origin is not None and origin not in taken:
                release(origin)  # it waits elsewhere now, and what stood behind it may fit
            elif origin is not None:
                stopped.add(origin)
        if len(batch) == batch_size or (batch and not drop_last):
            yield batch
        for value in stopped:
            release(value)
