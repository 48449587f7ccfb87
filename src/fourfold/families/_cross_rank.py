"""Documents sorted by a cross encoder: each by itself, or by the best of its passages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fourfold.containers import offsets_of
from fourfold.errors import InputError
from fourfold.families._chunks import NO_LIMIT, Cutting
from fourfold.modules._base import InputModule
from fourfold.text import prompts as prompting
from fourfold.text.chunks import fast_tokenizer


def check_ranks(model: Any) -> None:
    """Raise :class:`~fourfold.errors.InputError` for a model that gives several scores."""
    if model.num_labels != 1:
        raise InputError(f"rank needs a model with one label, this one has {model.num_labels}; use predict")


def best_first(
    scores: Sequence[float], documents: Sequence[Any], top_k: int | None, return_documents: bool
) -> list[dict[str, Any]]:
    """Return the documents by their scores, the best first; equal ones keep their order."""
    best = sorted(enumerate(scores), key=lambda hit: -hit[1])[:top_k]
    hits: list[dict[str, Any]] = [{"corpus_id": number, "score": score} for number, score in best]
    if return_documents:
        for hit in hits:
            hit["text"] = documents[hit["corpus_id"]]
    return hits


def rank_passages(
    model: Any,
    query: str,
    documents: Sequence[str],
    top_k: int | None,
    return_documents: bool,
    size: int | None,
    overlap: int,
    options: dict[str, Any],
) -> list[dict[str, Any]]:
    """Sort documents by the best of their passages; see ``CrossEncoder.rank_passages``."""
    check_ranks(model)
    for i, document in enumerate(documents):
        if not isinstance(document, str):
            raise InputError(f"documents must be strings, got {type(document).__name__} at position {i}")
    if not documents:
        return []
    spans = _passages(model, query, documents, size, overlap, options)
    pairs = [
        [query, document[start:stop]]
        for document, some in zip(documents, spans, strict=True)
        for start, stop in some.tolist()
    ]
    scores = np.asarray(model.predict(inputs=pairs, **options))
    starts = offsets_of([len(some) for some in spans])[:-1]
    best = np.maximum.reduceat(scores, starts)
    hits = best_first(best.tolist(), documents, top_k, return_documents)
    for hit in hits:
        number = hit["corpus_id"]
        some = scores[starts[number] : starts[number] + len(spans[number])]
        hit["start"], hit["stop"] = spans[number][some.argmax()].tolist()
    return hits


def _passages(
    model: Any, query: str, documents: Sequence[str], size: int | None, overlap: int, options: dict[str, Any]
) -> list[Any]:
    """Return the passages of each document, int64 ``[passages, 2]``."""
    tokenizer = fast_tokenizer(model.tokenizer)
    limit = _room(model, query, options)
    if size is not None and limit is not None and size > limit:
        raise InputError(f"size must be at most the {limit} tokens that the query leaves, got {size}")
    wanted = limit if size is None else size
    if wanted is None:
        raise InputError("the model has no max_seq_length; say with size how many tokens a passage may have")
    around = tokenizer.count("")  # what a passage alone has around it
    return Cutting(tokenizer, None, wanted + around, overlap).offsets(list(documents))


def _room(model: Any, query: str, options: dict[str, Any]) -> int | None:
    """Return how many tokens a query leaves for a passage beside it; None is no limit.

    Raises:
        InputError: If it leaves none, or the model does not read pairs of texts alone.
    """
    first = model[0]
    kwargs = {name: value for name, value in options.items() if name == "processing_kwargs"}
    if not isinstance(first, InputModule) or not first.tokenises(kwargs):
        raise InputError("rank_passages needs a model that reads texts, without other arguments of its processor")
    longest = first.longest_input(**kwargs)
    if longest is None or longest >= NO_LIMIT:
        return None
    given = options.get("prompt"), options.get("prompt_name")
    prompt = prompting.resolve(model.prompts, model.default_prompt_name, *given)
    taken = len(first.tokenise([(query, "")], prompt, **kwargs).ids)
    if taken >= longest:
        raise InputError(f"the query leaves no room for passages: it takes {taken} of the model's {longest} tokens")
    return int(longest) - taken
