"""Convolutions along a text's tokens: each token sees its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fourfold.errors import InputError, ShapeError
from fourfold.modules._base import Features, WeightedModule, needed
from fourfold.modules._segments import segments_of
from fourfold.notices import renamed_keywords
from fourfold.ops.pooling import Segments


class CNN(WeightedModule):
    """Replace each token's vector by several convolutions over it and its neighbours, joined (Kim 2014, 1408.5882).

    What lies outside a text counts as zeros, whatever the batch holds there, so that a text's vectors do not depend on
    its company. A kernel of even size, or a stride above 1, gives fewer vectors than there are tokens; the mask is then
    that of the vectors.

    Args:
        in_embedding_dimension: Width of the token vectors.
        out_channels: Width that each kernel gives.
        kernel_sizes: Number of tokens that each kernel spans, the token itself in the middle.
        stride_sizes: Steps of each kernel; 1 by default.

    Raises:
        InputError: If a size is no positive number, or the two lists are of different length.
    """

    config_file_name: ClassVar[str] = "cnn_config.json"
    config_keys: ClassVar[list[str]] = ["in_embedding_dimension", "out_channels", "kernel_sizes", "stride_sizes"]
    config_key_renames: ClassVar[dict[str, str]] = {"in_word_embedding_dimension": "in_embedding_dimension"}

    @renamed_keywords(in_word_embedding_dimension="in_embedding_dimension")
    def __init__(
        self,
        in_embedding_dimension: int,
        out_channels: int = 256,
        kernel_sizes: Sequence[int] = (1, 3, 5),
        stride_sizes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.in_embedding_dimension = in_embedding_dimension
        self.out_channels = out_channels
        self.kernel_sizes = list(kernel_sizes)
        self.stride_sizes = [1] * len(self.kernel_sizes) if stride_sizes is None else list(stride_sizes)
        sizes = [in_embedding_dimension, out_channels, *self.kernel_sizes, *self.stride_sizes]
        if not self.kernel_sizes or any(not isinstance(size, int) or size < 1 for size in sizes):
            raise InputError(f"the sizes of a CNN must be positive numbers, got {self.get_config_dict()}")
        if len(self.kernel_sizes) != len(self.stride_sizes):
            raise InputError(
                f"stride_sizes must hold one step for each of kernel_sizes {self.kernel_sizes}, got {self.stride_sizes}"
            )
        self.convs = nn.ModuleList(
            nn.Conv1d(in_embedding_dimension, out_channels, kernel, stride, padding=(kernel - 1) // 2)
            for kernel, stride in zip(self.kernel_sizes, self.stride_sizes, strict=True)
        )

    @classmethod
    def example(cls) -> CNN:
        """Return a tiny instance for tests."""
        return cls(8, 4, [1, 3])

    @property
    def keeps_lengths(self) -> bool:
        """Whether there is one vector for each token."""
        return all(kernel % 2 for kernel in self.kernel_sizes) and set(self.stride_sizes) == {1}

    @property
    def packed(self) -> bool:  # type: ignore[override]
        """Whether packed features come out packed: where each token keeps a vector."""
        return self.keeps_lengths

    @property
    def embeddings_dimension(self) -> int:
        """Width of the vectors that come out."""
        return self.out_channels * len(self.kernel_sizes)

    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors that come out."""
        return self.embeddings_dimension

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Convolve ``token_embeddings``, ``[rows, longest, width]`` with a mask or ``[1, tokens, width]`` packed.

        Raises:
            ShapeError: If the kernels give different numbers of vectors.
        """
        tokens = needed(features, "token_embeddings", self, self.in_embedding_dimension)
        segments = segments_of(features, tokens)
        chosen = segments.select(tokens.reshape(-1, tokens.shape[-1]))
        # One row of zeros stands for everything outside a text.
        chosen = torch.cat([chosen, chosen.new_zeros(1, chosen.shape[1])])
        lengths = self._lengths(segments)
        row = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
        place = torch.arange(len(row), device=row.device) - (lengths.cumsum(0) - lengths)[row]
        mixed = torch.cat([_convolved(conv, chosen, segments, row, place) for conv in self.convs], dim=-1)
        if self.keeps_lengths:
            flat = segments.spread(mixed, tokens.shape[0] * tokens.shape[1])
            features["token_embeddings"] = flat.reshape(*tokens.shape[:2], -1)
            return features
        return _padded(features, mixed, lengths)

    def _lengths(self, segments: Segments) -> Tensor:
        """Return how many vectors each text gives, int64 ``[rows]``."""
        found = []
        for kernel, stride in zip(self.kernel_sizes, self.stride_sizes, strict=True):
            room = segments.count + 2 * ((kernel - 1) // 2) - kernel
            found.append(torch.where(room >= 0, room // stride + 1, 0).where(segments.count > 0, 0))
        if any(not torch.equal(found[0], other) for other in found[1:]):
            raise ShapeError(
                f"kernel_sizes {self.kernel_sizes} with stride_sizes {self.stride_sizes} give different numbers of "
                "vectors; take odd sizes and equal strides"
            )
        return found[0]


def _convolved(conv: nn.Module, chosen: Tensor, segments: Segments, row: Tensor, place: Tensor) -> Tensor:
    """Return one kernel's vectors ``[vectors, channels]``, as one product over the tokens that each spans."""
    assert isinstance(conv, nn.Conv1d)
    (kernel,), (stride,), outside = conv.kernel_size, conv.stride, len(chosen) - 1
    first = place * stride - (kernel - 1) // 2
    spanned = first[:, None] + torch.arange(kernel, device=place.device)
    inside = (spanned >= 0) & (spanned < segments.count[row][:, None])
    index = torch.where(inside, segments.starts[row][:, None] + spanned, outside)
    weight = conv.weight.transpose(1, 2).reshape(conv.out_channels, -1)
    return functional.linear(chosen[index].flatten(1), weight, conv.bias)


def _padded(features: Features, vectors: Tensor, lengths: Tensor) -> Features:
    """Write the vectors of texts whose lengths have changed, padded, with their mask."""
    longest = max(1, int(lengths.max())) if len(lengths) else 0
    mask = torch.arange(longest, device=lengths.device) < lengths[:, None]
    tokens = vectors.new_zeros(*mask.shape, vectors.shape[-1])
    tokens[mask] = vectors
    for key in ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "packing"):
        features.pop(key, None)
    features |= {"token_embeddings": tokens, "attention_mask": mask.long(), "sentence_lengths": lengths}
    return features
