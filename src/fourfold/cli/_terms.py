"""What a sparse model, or the built-in word weights, make of single texts: weights by token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fourfold.errors import InputError

BUILT_IN = "built-in word weights (BM25)"


@dataclass(frozen=True)
class Weighed:
    """One text.

    Attributes:
        text: The text.
        role: ``query`` or ``document``, which it was encoded as.
        weights: Of its tokens, the heaviest first.
    """

    text: str
    role: str
    weights: dict[str, float]


@dataclass(frozen=True)
class Weigher:
    """What gives weights.

    Attributes:
        name: What it is called.
        width: Number of tokens that there are; None where any word is one.
        similarity: What compares two texts: ``dot``, ``cosine`` or another.
        weights: From a text and its role to the weights of tokens.
    """

    name: str
    width: int | None
    similarity: str
    weights: Callable[[str, str], dict[str, float]]

    def weigh(self, text: str, role: str) -> Weighed:
        """Return a text with its weights, equal ones in the order of their tokens."""
        found = self.weights(text, role)
        return Weighed(text, role, dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))))


@dataclass(frozen=True)
class Shared:
    """A token that two texts share, and what it adds to their dot product."""

    token: str
    first: float
    second: float

    @property
    def product(self) -> float:
        """What it adds."""
        return self.first * self.second


def shared(first: Weighed, second: Weighed) -> list[Shared]:
    """Return the tokens that two texts share, those that add most first."""
    both = [Shared(token, weight, second.weights[token]) for token, weight in first.weights.items()
            if token in second.weights]  # fmt: skip
    return sorted(both, key=lambda token: (-token.product, token.token))


def length(weighed: Weighed) -> float:
    """Return the length of a text's vector."""
    return float(sum(weight * weight for weight in weighed.weights.values()) ** 0.5)


def weigher_of(model: str | None) -> Weigher:
    """Return what gives the weights of a model, or of the words where none is named.

    Raises:
        InputError: If the model is not sparse.
    """
    return _words() if model is None else _sparse(model)


def _words() -> Weigher:
    from fourfold.search import analysis, lexical, prior

    def weights(text: str, role: str) -> dict[str, float]:
        terms = analysis.terms(text)
        return lexical.question_weights(terms, prior.builtin()) if role == "query" else lexical.passage_weights(terms)

    return Weigher(BUILT_IN, None, "dot", weights)


def _sparse(model: str) -> Weigher:
    import fourfold
    from fourfold.search.encoders import is_sparse

    encoder: Any = fourfold.load(model)
    if not is_sparse(encoder):
        raise InputError(
            f"explain shows the weights of tokens; {model} is no sparse model and has none. Name a sparse one with "
            "--model, such as a SPLADE model, or leave it out for the built-in word weights"
        )
    names = names_of(encoder, model)

    def weights(text: str, role: str) -> dict[str, float]:
        encode = encoder.encode_query if role == "query" else encoder.encode_document
        terms, values = encode([text], show_progress_bar=False).row(0)
        return dict(zip(names(terms.tolist()), map(float, values), strict=True))

    return Weigher(model, encoder.get_embedding_dimension(), encoder.similarity_fn_name, weights)


def names_of(encoder: Any, model: str) -> Callable[[list[int]], list[str]]:
    """Return what gives the names of a model's terms: tokens, or numbers where they stand for nothing else."""
    from fourfold.cli._folder import weighs_tokens

    if not weighs_tokens(model):
        return lambda terms: [f"unit {term}" for term in terms]

    def tokens(terms: list[int]) -> list[str]:
        import numpy as np

        # A vocabulary may have room for more tokens than the tokenizer has.
        found = encoder.tokens(np.array(terms, np.int32))
        return [token or f"unit {term}" for token, term in zip(found, terms, strict=True)]

    return tokens
