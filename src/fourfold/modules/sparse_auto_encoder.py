"""Re-code dense vectors as a few active units of a wide layer."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fourfold.errors import InputError, ShapeError
from fourfold.modules._base import Features, WeightedModule, needed

# A unit counts as alive if its value in some row was above this.
_ALIVE = 1e-5
_SIZES = ("input_dim", "hidden_dim", "k", "k_aux", "dead_threshold")


class TiedTranspose(nn.Module):
    """A linear layer the other way round, with the same weight.

    Args:
        linear: The layer, ``[width] -> [units]``.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    @property
    def weight(self) -> Tensor:
        """``[width, units]``."""
        return self.linear.weight.T

    @property
    def bias(self) -> None:
        """There is none."""
        return None

    def forward(self, units: Tensor) -> Tensor:
        """Return ``[rows, width]`` from ``[rows, units]``."""
        return functional.linear(units, self.weight)


class SparseAutoEncoder(WeightedModule):
    """Re-code ``sentence_embedding`` as the ``k`` most active of many units (CSR; Wen et al. 2025, arXiv:2503.01776).

    In inference mode only these are computed; otherwise also what the losses of its training read.

    Args:
        input_dim: Width of the dense vectors.
        hidden_dim: Number of units.
        k: How many stay active in a row.
        k_aux: How many units that have long been silent try to explain what the others leave over; 0 is none.
        normalize: Whether vectors are scaled to mean 0 and standard deviation 1 first.
        dead_threshold: Training steps without activity after which a unit counts as silent.

    Raises:
        InputError: If a size is no whole number, or below 1 (0 for ``k_aux``).
    """

    config_keys: ClassVar[list[str]] = [*_SIZES[:4], "normalize", "dead_threshold"]
    forward_kwargs: ClassVar[set[str]] = {"max_active_dims"}
    packed = True
    stats_last_nonzero: Tensor

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 512,
        k: int = 8,
        k_aux: int = 512,
        normalize: bool = False,
        dead_threshold: int = 30,
    ) -> None:
        super().__init__()
        for name, size in zip(_SIZES, (input_dim, hidden_dim, k, k_aux, dead_threshold), strict=True):
            least = 0 if name in ("k_aux", "dead_threshold") else 1
            if isinstance(size, bool) or not isinstance(size, int) or size < least:
                raise InputError(f"{name} must be a whole number of at least {least}, got {size!r}")
        self.input_dim = input_dim
        self.hidden_dim = hidden_dim
        self.k = k
        self.k_aux = k_aux
        self.normalize = normalize
        self.dead_threshold = dead_threshold
        self.pre_bias = nn.Parameter(torch.zeros(input_dim))
        self.latent_bias = nn.Parameter(torch.zeros(hidden_dim))
        self.encoder = nn.Linear(input_dim, hidden_dim, bias=False)
        self.decoder = TiedTranspose(self.encoder)
        self.register_buffer("stats_last_nonzero", torch.zeros(hidden_dim, dtype=torch.long))

    @classmethod
    def example(cls) -> SparseAutoEncoder:
        """Return a tiny instance for tests."""
        return cls(8, hidden_dim=40, k=3, k_aux=5, normalize=True)

    def get_embedding_dimension(self) -> int:
        """Return the number of units."""
        return self.hidden_dim

    # -- steps -------------------------------------------------------------------------------------------------------

    def LN(self, x: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
        """Return vectors with mean 0 and standard deviation 1, and both of each before, ``[rows, 1]``."""
        mean = x.mean(dim=-1, keepdim=True)
        centred = x - mean
        deviation = centred.std(dim=-1, keepdim=True)
        return centred / (deviation + eps), mean, deviation

    def prepare(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the vectors as they are encoded, and what :meth:`decode` needs to undo that."""
        if not self.normalize:
            return x, {}
        scaled, mean, deviation = self.LN(x)
        return scaled, {"mu": mean, "std": deviation}

    def encode_pre_act(self, x: Tensor) -> Tensor:
        """Return the value of every unit, ``[rows, units]``."""
        return self.encoder(x - self.pre_bias) + self.latent_bias

    def top_k(self, x: Tensor, k: int | None = None, compute_aux: bool = True) -> tuple[Tensor, Tensor | None]:
        """Return the values of the most active units alone, and those of the silent ones that would be.

        Args:
            x: Values of all units, ``[rows, units]``.
            k: How many a row keeps; None is the module's.
            compute_aux: Whether the second are wanted. In training this also counts for how long units are silent.
        """
        k = self.k if k is None else k
        active = self._largest(x, k, "k, or max_active_dims")
        if not compute_aux:
            return active, None
        if self.training and torch.is_grad_enabled():
            self.stats_last_nonzero.mul_((active <= _ALIVE).all(dim=0)).add_(1)
        if not self.k_aux:
            return active, None
        silent = self.stats_last_nonzero > self.dead_threshold
        return active, self._largest(x * silent, self.k_aux, "k_aux")

    def _largest(self, x: Tensor, k: int, name: str) -> Tensor:
        if k > x.shape[-1]:
            raise ShapeError(f"SparseAutoEncoder has {x.shape[-1]} units, of which {k} cannot be kept ({name})")
        values, places = x.topk(k, dim=-1)
        return torch.zeros_like(x).scatter_(-1, places, values.relu())

    def decode(self, latents: Tensor, info: dict[str, Tensor] | None = None) -> Tensor:
        """Return the dense vectors that units stand for, ``[rows, width]``.

        Args:
            latents: ``[rows, units]``.
            info: What :meth:`prepare` gave; needed if the module normalises.
        """
        decoded = self.decoder(latents) + self.pre_bias
        if not self.normalize:
            return decoded
        if not info:
            raise InputError("decode needs info, which prepare gives, for this module normalises")
        return decoded * info["std"] + info["mu"]

    def forward(self, features: Features, max_active_dims: int | None = None, **kwargs: Any) -> Features:
        """Write the active units to ``sentence_embedding``, ``[rows, units]``.

        Args:
            features: ``sentence_embedding`` ``[rows, width]``.
            max_active_dims: How many units stay active, instead of ``k``.
            **kwargs: Ignored.

        Outside inference mode it also writes ``sentence_embedding_backbone`` (what came in),
        ``sentence_embedding_encoded`` (all units), ``sentence_embedding_encoded_4k`` (the 4 k most active),
        ``auxiliary_embedding`` (silent units) and the vectors that these decode to: ``decoded_embedding_k``,
        ``decoded_embedding_k_pre_bias``, ``decoded_embedding_4k`` and ``decoded_embedding_aux``.

        Raises:
            ShapeError: If there are fewer units than are to be kept.
        """
        k = self.k if max_active_dims is None else max_active_dims
        dense = needed(features, "sentence_embedding", self, self.input_dim)
        x, info = self.prepare(dense)
        units = self.encode_pre_act(x)
        if torch.is_inference_mode_enabled():
            features["sentence_embedding"], _ = self.top_k(units, k, compute_aux=False)
            return features
        active, silent = self.top_k(units, k)
        more, _ = self.top_k(units, 4 * k)
        decoded = self.decode(active, info)
        scale = info.get("std", 1)
        features.update(
            sentence_embedding=active,
            sentence_embedding_backbone=dense,
            sentence_embedding_encoded=units,
            sentence_embedding_encoded_4k=more,
            auxiliary_embedding=silent,
            decoded_embedding_k=decoded,
            decoded_embedding_4k=self.decode(more, info),
            decoded_embedding_aux=None if silent is None else (self.decoder(silent) + self.pre_bias) * scale,
            decoded_embedding_k_pre_bias=decoded - self.pre_bias * scale,
        )
        return features
