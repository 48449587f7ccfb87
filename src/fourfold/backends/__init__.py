"""What runs a model: one file a backend, all with one face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fourfold.containers import Prefixes


class Batch(Protocol):
    """Inputs that can be split: token ids, or whatever a model prepares itself."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, or an estimate that sorts like them."""

    @property
    def prefixes(self) -> Prefixes | None:
        """Leading tokens that rows share and that run once where the rows run together; None if there are none."""

    def take(self, rows: NDArray[np.int64]) -> Any:
        """Return the given rows in the given order."""


class Backend(Protocol):
    """The face that the engine sees.

    Attributes:
        packed: Whether batches run without padding.
    """

    packed: bool

    @property
    def best_tokens(self) -> int:
        """Tokens of a batch above which this device gets no faster."""

    def prepare(self, items: Sequence[Any]) -> Batch:
        """Tokenise inputs; called from a thread while a batch runs."""

    def run(self, batch: Any) -> Any:
        """Run one batch and return its output, one row an input."""

    def out_of_memory(self, error: Exception) -> bool:
        """Whether an error says that the batch was too large for the device's memory; frees what it can."""
