"""Vectors whose first numbers are vectors of their own: any loss, at several widths at once."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fourfold.errors import InputError
from fourfold.losses._base import Loss, scaled
from fourfold.losses._citations import article
from fourfold.losses._forwards import forward_replaced
from fourfold.losses._gradient_cache import send_back, uses_gradient_cache
from fourfold.modules._base import Features

logger = logging.getLogger(__name__)


def shrink(vectors: Tensor, dim: int) -> Tensor:
    """Return the first ``dim`` numbers of vectors, with length 1.

    Raises:
        InputError: If the vectors have fewer numbers.
    """
    if dim > vectors.shape[-1]:
        raise InputError(f"a Matryoshka width of {dim} is more than the {vectors.shape[-1]} numbers of the vectors")
    return functional.normalize(vectors[..., :dim], p=2, dim=-1)


class MatryoshkaLoss(Loss):
    """Add up a loss of vectors that are cut to several widths; each text runs through the model once.

    Columns and labels are those of the inner loss. Labels that are vectors of the model's width are cut too.

    Args:
        model: The encoder.
        loss: The loss of vectors of each width.
        matryoshka_dims: The widths.
        matryoshka_weights: The weight of each; None is 1.
        n_dims_per_step: How many widths a step computes, drawn at random; -1 is all.

    Raises:
        InputError: If there are no widths, one is not above 0 or wider than the model's vectors, or there are more or
            fewer weights.
    """

    citation = article(
        "kusupati2024matryoshka", "2205.13147", 2024, "Matryoshka Representation Learning",
        "Aditya Kusupati and Gantavya Bhatt and Aniket Rege and Matthew Wallingford and Aditya Sinha and Vivek "
        "Ramanujan and William Howard-Snyder and Kaifeng Chen and Sham Kakade and Prateek Jain and Ali Farhadi",
        "cs.LG",
    )  # fmt: skip

    def __init__(
        self,
        model: Any,
        loss: nn.Module,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[float] | None = None,
        n_dims_per_step: int = -1,
    ) -> None:
        super().__init__(model)
        self.loss = loss
        dims = list(matryoshka_dims)
        weights = [1] * len(dims) if matryoshka_weights is None else list(matryoshka_weights)
        _check(dims, weights, model.get_embedding_dimension())
        order = sorted(range(len(dims)), key=lambda i: -dims[i])
        self.matryoshka_dims = tuple(dims[i] for i in order)
        self.matryoshka_weights = tuple(weights[i] for i in order)
        self.n_dims_per_step = n_dims_per_step
        self.cached_losses = uses_gradient_cache(loss)
        if self.cached_losses:
            loss.calculate_loss = self._at_all_widths(loss.calculate_loss)  # type: ignore[assignment, arg-type]

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Any:
        """Return the weighted sum over the widths."""
        columns = list(sentence_features)
        if self.cached_losses:
            return self.loss(columns, labels)
        losses = []
        with _narrowing(self.model) as narrow:
            for number in sorted(self._chosen()):
                dim = self.matryoshka_dims[number]
                narrow(dim)
                losses.append(scaled(self.matryoshka_weights[number], self.loss(columns, self._cut(labels, dim))))
        return _total(losses)

    def _chosen(self) -> list[int]:
        numbers = list(range(len(self.matryoshka_dims)))
        if 0 < self.n_dims_per_step < len(numbers):
            return random.sample(numbers, self.n_dims_per_step)
        return numbers

    def _cut(self, labels: Any, dim: int) -> Any:
        """Return labels that are vectors of the model's width cut to another one."""
        vectors = isinstance(labels, Tensor) and labels.ndim in (2, 3) and labels.is_floating_point()
        if vectors and labels.shape[-1] == self.model.get_embedding_dimension():
            return labels[..., :dim]
        return labels

    def _at_all_widths(self, calculate: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the step of a cached loss that goes from vectors to gradients."""

        def calculate_loss(reps: Any, *args: Any, with_backward: bool = False, **kwargs: Any) -> Any:
            losses = []
            for number in self._chosen():
                dim, weight = self.matryoshka_dims[number], self.matryoshka_weights[number]
                cut = [[shrink(rep, dim) for rep in column] for column in reps]
                leaves = [[rep.detach().requires_grad_(with_backward) for rep in column] for column in cut]
                others = [self._cut(other, dim) for other in args]
                losses.append(scaled(weight, calculate(leaves, *others, with_backward=with_backward, **kwargs)))
                if with_backward:
                    ends, reached = ([part for column in some for part in column] for some in (cut, leaves))
                    send_back(ends, reached, weight)
            return _total(losses)

        return calculate_loss

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {
            "loss": type(self.loss).__name__,
            "matryoshka_dims": self.matryoshka_dims,
            "matryoshka_weights": self.matryoshka_weights,
            "n_dims_per_step": self.n_dims_per_step,
        }


def _check(dims: list[int], weights: Sequence[float], width: int | None) -> None:
    if not dims:
        raise InputError("matryoshka_dims must name at least one width")
    if len(dims) != len(weights):
        raise InputError(
            f"matryoshka_weights must hold a weight for each of the {len(dims)} widths, got {len(weights)}"
        )
    if min(dims) <= 0:
        raise InputError(f"matryoshka_dims must be above 0, got {min(dims)}")
    if width is not None and max(dims) > width:
        raise InputError(f"matryoshka_dims must be at most the {width} numbers of the model's vectors, got {max(dims)}")
    if width is not None and width not in dims:
        logger.warning("the model's own width of %d is not among matryoshka_dims %s", width, dims)


def _total(losses: list[Any]) -> Any:
    if isinstance(losses[0], dict):
        return {name: torch.stack([loss[name] for loss in losses]).sum() for name in losses[0]}
    return torch.stack(losses).sum()


@contextmanager
def _narrowing(model: Any) -> Iterator[Callable[[int], None]]:
    """Let a model give narrower and narrower vectors of the same texts inside the block.

    Yields a function that begins the next width: the calls of the first one run the model, and those of later ones, in
    the same order, cut what it gave.
    """
    real = model.forward
    outputs: list[Features] = []
    width, place, first = 0, 0, True

    def narrow(dim: int) -> None:
        nonlocal width, place, first
        first = not outputs
        width, place = dim, 0

    def forward(features: Features, *args: Any, **kwargs: Any) -> Features:
        nonlocal place
        if first:
            outputs.append(dict(real(features, *args, **kwargs)))
        output = outputs[place]
        output["sentence_embedding"] = shrink(output["sentence_embedding"], width)
        place += 1
        return dict(output)

    with forward_replaced(model, forward):
        yield narrow
