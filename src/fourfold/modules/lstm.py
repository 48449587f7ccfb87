"""A recurrent network along a text's tokens."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fourfold.errors import InputError
from fourfold.modules._base import Features, WeightedModule, needed
from fourfold.modules._segments import segments_of
from fourfold.notices import renamed_keywords
from fourfold.ops.pooling import Segments


class LSTM(WeightedModule):
    """Replace each token's vector by the state of an LSTM that has read up to it (Hochreiter & Schmidhuber 1997).

    Args:
        embedding_dimension: Width of the token vectors.
        hidden_dim: Width of the state.
        num_layers: Number of LSTMs on top of each other.
        dropout: In training, probability to drop a feature between two of them.
        bidirectional: Whether a second LSTM reads from the end, and both states are joined.

    Raises:
        InputError: If a width is no positive number, or ``dropout`` no probability.
    """

    config_file_name: ClassVar[str] = "lstm_config.json"
    config_keys: ClassVar[list[str]] = ["embedding_dimension", "hidden_dim", "num_layers", "dropout", "bidirectional"]
    config_key_renames: ClassVar[dict[str, str]] = {"word_embedding_dimension": "embedding_dimension"}
    packed = True

    @renamed_keywords(word_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        embedding_dimension: int,
        hidden_dim: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        for name, size in (
            ("embedding_dimension", embedding_dimension), ("hidden_dim", hidden_dim), ("num_layers", num_layers),
        ):  # fmt: skip
            if not isinstance(size, int) or size < 1:
                raise InputError(f"{name} must be a positive number, got {size!r}")
        if not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
            raise InputError(f"dropout must be a probability from 0 to 1, got {dropout!r}")
        self.embedding_dimension = embedding_dimension
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.encoder = nn.LSTM(
            embedding_dimension,
            hidden_dim,
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=bidirectional,
            batch_first=True,
        )

    @classmethod
    def example(cls) -> LSTM:
        """Return a tiny instance for tests."""
        return cls(8, 4)

    @property
    def embeddings_dimension(self) -> int:
        """Width of the vectors that come out."""
        return self.hidden_dim * (2 if self.bidirectional else 1)

    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors that come out."""
        return self.embeddings_dimension

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Run over ``token_embeddings``, ``[rows, longest, width]`` padded or ``[1, tokens, width]`` packed.

        Where each text ends is read from ``cu_seq_lens_q``, else from ``attention_mask``, else from
        ``sentence_lengths`` ``[rows]``; what belongs to no text becomes zero.
        """
        tokens = needed(features, "token_embeddings", self, self.embedding_dimension)
        segments = segments_of(_with_mask(features, tokens), tokens)
        chosen = segments.select(tokens.reshape(-1, tokens.shape[-1]))
        if len(chosen):
            # Step by step, as cuDNN and torch read it: the first tokens of all texts, longest first, then the second.
            order, batch_sizes = _steps(segments)
            states = self.encoder(PackedSequence(chosen[order], batch_sizes))[0].data
            chosen = torch.empty_like(states).index_copy(0, order, states)
        else:
            chosen = chosen.new_zeros(0, self.embeddings_dimension)
        flat = segments.spread(chosen, tokens.shape[0] * tokens.shape[1])
        features["token_embeddings"] = flat.reshape(*tokens.shape[:2], -1)
        return features

    def save_torch_weights(self, output_path: str, safe_serialization: bool = True) -> None:
        """Write the weights; from a CPU copy, because cuDNN keeps them all in one tensor that cannot be split."""
        on_cpu = self.encoder.weight_ih_l0.device.type == "cpu"
        module = self if on_cpu else copy.deepcopy(self).cpu()
        super(LSTM, module).save_torch_weights(output_path, safe_serialization)


def _steps(segments: Segments) -> tuple[Tensor, Tensor]:
    """Return the tokens ``[selected]`` in the order of an LSTM's steps, and the number of texts at each step."""
    rank = torch.empty_like(segments.count)
    longest_first = segments.count.argsort(descending=True, stable=True)
    rank[longest_first] = torch.arange(segments.rows, device=rank.device)
    place = torch.arange(len(segments.row), device=rank.device) - segments.starts[segments.row]
    order = (place * segments.rows + rank[segments.row]).argsort()
    return order, place.bincount().cpu()


def _with_mask(features: Features, tokens: Tensor) -> Features:
    if "attention_mask" in features or "cu_seq_lens_q" in features or "sentence_lengths" not in features:
        return features
    places = torch.arange(tokens.shape[1], device=tokens.device)
    return {"attention_mask": (places < features["sentence_lengths"].to(tokens.device)[:, None]).long()}
