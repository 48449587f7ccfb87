"""Train a batch that is larger than the memory: GradCache, which gives the gradients of the whole batch exactly.

Gao et al. 2021, arXiv:2101.06983. The batch is embedded in mini-batches without gradients; the loss of all vectors
gives the gradient of each vector; then each mini-batch is embedded once more, with gradients and the same dropout, and
sends its vectors' gradients on into the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fourfold.errors import InputError
from fourfold.losses._citations import article
from fourfold.losses._rows import rows_of, take_rows, token_counts
from fourfold.modules._base import Features

GRAD_CACHE = article(
    "gao2021scaling", "2101.06983", 2021,
    "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
    "Luyu Gao and Yunyi Zhang and Jiawei Han and Jamie Callan", "cs.LG",
)  # fmt: skip

Reps = list[list[Tensor]]
"""Vectors by column and mini-batch."""


class RandContext:
    """Repeats the random numbers, such as those of dropout, that were drawn after it was made.

    Args:
        *tensors: The inputs of what is to be repeated; the generators of their devices are remembered, and the CPU's.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._cpu = torch.get_rng_state()
        self._devices = sorted({tensor.get_device() for tensor in tensors if tensor.is_cuda})
        self._states = [torch.cuda.get_rng_state(device) for device in self._devices]
        self._mps = torch.mps.get_rng_state() if any(tensor.device.type == "mps" for tensor in tensors) else None

    def __enter__(self) -> None:
        self._fork = torch.random.fork_rng(devices=self._devices, enabled=True)
        self._fork.__enter__()
        torch.set_rng_state(self._cpu)
        for device, state in zip(self._devices, self._states, strict=True):
            torch.cuda.set_rng_state(state, device)
        if self._mps is not None:
            torch.mps.set_rng_state(self._mps)

    def __exit__(self, *error: Any) -> None:
        self._fork.__exit__(*error)


def uses_gradient_cache(loss: Any) -> bool:
    """Whether a loss embeds a batch in mini-batches, twice."""
    return bool(getattr(loss, "uses_gradient_cache", False))


def has_static_embedding_input(model: Any) -> bool:
    """Whether texts reach a model through static embeddings, on any of its routes."""
    from fourfold.modules.router import Router
    from fourfold.modules.static_embedding import StaticEmbedding

    first = model[0]
    if isinstance(first, Router):
        return any(isinstance(next(chain.children()), StaticEmbedding) for chain in first.sub_modules.values())
    return isinstance(first, StaticEmbedding)


def check_mini_batches(loss: Any, model: Any) -> None:
    """Raise :class:`~fourfold.errors.InputError` if a model or its settings cannot be trained in mini-batches."""
    if has_static_embedding_input(model):
        raise InputError(
            f"{type(loss).__name__} is not for models with a StaticEmbedding: their batches need no cutting; use the "
            "loss without a cache"
        )
    if loss.mini_batch_num_tokens is not None and loss.mini_batch_num_tokens <= 0:
        raise InputError(f"mini_batch_num_tokens must be above 0, got {loss.mini_batch_num_tokens}")


class CachedLossMixin:
    """The part of a loss that embeds batches in mini-batches, and their gradients after them.

    A subclass gives :meth:`calculate_loss` and calls :meth:`forward_cached`.

    Attributes:
        model: The encoder.
        mini_batch_size: Rows that are embedded together.
        mini_batch_num_tokens: Tokens that are embedded together; wins over ``mini_batch_size`` unless it is None.
        show_progress_bar: Whether to show what is being embedded.
    """

    uses_gradient_cache: bool = True
    model: Any
    mini_batch_size: int
    mini_batch_num_tokens: int | None
    show_progress_bar: bool

    def calculate_loss(self, reps: Reps, labels: Any = None, *, with_backward: bool = False) -> Any:
        """Return the loss of vectors by column and mini-batch, sending gradients to them if asked to."""
        raise NotImplementedError

    def embed_mini_batch(self, features: Features) -> Tensor:
        """Return the vectors of a mini-batch of one column."""
        return self.model(dict(features))["sentence_embedding"]

    def forward_cached(self, sentence_features: Iterable[Features], labels: Any = None) -> Any:
        """Return the loss of a batch; its backward pass trains the model mini-batch by mini-batch."""
        columns = list(sentence_features)
        parts = [self._parts(column) for column in columns]
        reps: Reps = []
        contexts: list[list[RandContext]] = []
        recorded = torch.is_grad_enabled()
        with torch.no_grad():
            for column in self._shown(parts, "Embed mini-batches"):
                reps.append([])
                contexts.append([])
                for features in column:
                    if recorded:
                        contexts[-1].append(RandContext(*(v for v in features.values() if isinstance(v, Tensor))))
                    reps[-1].append(self.embed_mini_batch(features))
        if not recorded:
            return self.calculate_loss(reps, labels)
        reps = [[rep.detach().requires_grad_() for rep in column] for column in reps]
        loss = self.calculate_loss(reps, labels, with_backward=True)
        gradients = self._gradients(reps)
        return _with_hook(loss, lambda factor: self._replay(parts, contexts, gradients, factor))

    def of_row_parts(self, rows: int, loss_of: Callable[[slice], Tensor], with_backward: bool) -> Tensor:
        """Return the mean loss of all rows, computed a mini-batch of them at a time.

        Args:
            rows: How many there are.
            loss_of: The mean loss of some of them.
            with_backward: Whether each part sends its gradients back at once, after which its graph is gone.
        """
        losses = []
        for start in self._shown(range(0, rows, self.mini_batch_size), "Calculating loss"):
            part = slice(start, min(start + self.mini_batch_size, rows))
            loss = loss_of(part) * ((part.stop - part.start) / rows)
            if with_backward:
                loss.backward()
                loss = loss.detach()
            losses.append(loss)
        return torch.stack(losses).sum()

    def _parts(self, features: Features) -> list[Features]:
        return [
            take_rows(features, *span) for span in _spans(features, self.mini_batch_size, self.mini_batch_num_tokens)
        ]

    def _shown(self, items: Sequence[Any], what: str) -> Iterable[Any]:
        if not self.show_progress_bar:
            return items
        from tqdm.auto import tqdm

        return tqdm(items, desc=what)

    def _gradients(self, reps: Reps) -> list[list[Tensor]]:
        found = [[rep.grad for rep in column if rep.grad is not None] for column in reps]
        unused = [i for i, (column, some) in enumerate(zip(reps, found, strict=True)) if len(some) < len(column)]
        if unused:
            raise InputError(f"{type(self).__name__} makes no use of the columns {unused}; leave them out")
        return found

    def _replay(
        self,
        parts: Sequence[Sequence[Features]],
        contexts: Sequence[Sequence[RandContext]],
        gradients: Sequence[Sequence[Tensor]],
        factor: Tensor,
    ) -> None:
        """Embed each mini-batch again, and send the gradients of its vectors into the model."""
        steps = [step for column in zip(parts, contexts, gradients, strict=True) for step in zip(*column, strict=True)]
        for number, (features, context, gradient) in enumerate(steps):
            last = number == len(steps) - 1
            with torch.enable_grad(), context, _without_sync(self.model, not last):
                vectors = self.embed_mini_batch(features)
                if not vectors.requires_grad:
                    continue
                wide = torch.promote_types(vectors.dtype, torch.float32)
                surrogate = (vectors.to(wide) * gradient.to(wide)).sum() * factor
                surrogate.backward()


def send_back(tensors: Sequence[Tensor], leaves: Sequence[Tensor], factor: float = 1.0) -> None:
    """Send the gradients that have reached copies of tensors on into the tensors, as far as any have.

    Args:
        tensors: The ends of a graph.
        leaves: A copy of each, cut off from it.
        factor: Of the gradients.
    """
    reached = [(tensor, leaf.grad) for tensor, leaf in zip(tensors, leaves, strict=True) if leaf.grad is not None]
    torch.autograd.backward([tensor for tensor, _ in reached], [gradient * factor for _, gradient in reached])


def _with_hook(loss: Any, replay: Callable[[Tensor], None]) -> Any:
    """Return a loss without its graph, whose backward pass replays; of several parts the first one's does."""
    parts = loss if isinstance(loss, dict) else {"": loss}
    name, *others = parts
    first = parts[name].detach().requires_grad_()
    first.register_hook(lambda factor: replay(factor))
    if not isinstance(loss, dict):
        return first
    return {name: first, **{other: parts[other].detach() for other in others}}


def _spans(features: Features, size: int, tokens: int | None) -> Iterator[tuple[int, int]]:
    """Yield the first row and the one after the last of each mini-batch.

    Raises:
        InputError: If tokens are to be counted and the features do not tell them.
    """
    rows = rows_of(features)
    if tokens is None:
        yield from ((start, min(start + size, rows)) for start in range(0, rows, size))
        return
    counts = token_counts(features)
    if counts is None:
        raise InputError("mini_batch_num_tokens needs features that tell the tokens of each text; use mini_batch_size")
    ends, start = np.cumsum(counts), 0
    while start < rows:
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + tokens, side="right")))
        yield start, stop
        start = stop


@contextlib.contextmanager
def _without_sync(model: Any, unsynced: bool) -> Iterator[None]:
    """Keep the gradients of a distributed model to this process inside the block, if it is not the last one."""
    if unsynced and hasattr(model, "no_sync"):
        with model.no_sync():
            yield
    else:
        yield
