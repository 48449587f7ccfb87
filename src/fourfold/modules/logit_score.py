"""Turn the logits of a language model into a score: how much more it would answer yes than no."""

from __future__ import annotations

from typing import Any, ClassVar

from fourfold.errors import InputError, ShapeError
from fourfold.modules._base import Features, Module, needed


class LogitScore(Module):
    """Score an input by the next token that a language model expects: one token's logit, less that of another.

    Nogueira et al. 2020, arXiv:2003.06713.

    Args:
        true_token_id: Id of the token that says yes.
        false_token_id: Id of the token that says no; None scores by the first alone.
        module_input_name: Feature to read.

    Raises:
        InputError: If an id is no token's.
    """

    config_keys: ClassVar[list[str]] = ["true_token_id", "false_token_id", "module_input_name"]
    packed = True

    def __init__(
        self, true_token_id: int, false_token_id: int | None = None, module_input_name: str = "causal_logits"
    ) -> None:
        super().__init__()
        for name, token in (("true_token_id", true_token_id), ("false_token_id", false_token_id)):
            optional = token is None and name == "false_token_id"
            if not optional and (not isinstance(token, int) or isinstance(token, bool) or token < 0):
                raise InputError(f"{name} must be the id of a token, got {token!r}")
        self.true_token_id = true_token_id
        self.false_token_id = false_token_id
        self.module_input_name = module_input_name

    @classmethod
    def example(cls) -> LogitScore:
        """Return a tiny instance for tests."""
        return cls(1, 0)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Write ``scores`` ``[rows, 1]`` from logits ``[rows, positions, words]``, of which the last position counts.

        Of packed texts there is one position each, ``[1, rows, words]``.
        """
        logits = needed(features, self.module_input_name, self)
        last = logits[0] if "cu_seq_lens_q" in features else logits[:, -1]
        highest = max(self.true_token_id, self.false_token_id or 0)
        if highest >= last.shape[-1]:
            raise ShapeError(f"LogitScore reads token {highest}, the logits are those of {last.shape[-1]} tokens")
        score = last[:, self.true_token_id]
        if self.false_token_id is not None:
            score = score - last[:, self.false_token_id]
        features["scores"] = score.unsqueeze(-1)
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the settings."""
        self.save_config(output_path)
