"""Prompts: which one a call means, and how it is put before a text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fourfold.errors import InputError, did_you_mean

logger = logging.getLogger(__name__)

# The first of these keys that a model's prompts hold is what encode_query and encode_document use.
QUERY_NAMES = ("query",)
DOCUMENT_NAMES = ("document", "passage", "corpus")


def merge(given: Mapping[str, str | None] | None, saved: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Return a model's prompts: those given win over those saved, and each of ``names`` exists, blank if unset."""
    return blanked(filled({**dict.fromkeys(names), **(given or {})}, saved))


def filled(prompts: Mapping[str, str | None], saved: Mapping[str, str]) -> dict[str, str | None]:
    """Return prompts with those that are unset (absent or None) taken from a saved model."""
    missing = {name: text for name, text in saved.items() if prompts.get(name) is None}
    return {**prompts, **missing}


def blanked(prompts: Mapping[str, str | None]) -> dict[str, str]:
    """Return prompts with those that are unset made blank."""
    return {name: "" if text is None else text for name, text in prompts.items()}


def check_default(prompts: Mapping[str, str], default_name: str | None) -> None:
    """Raise :class:`~fourfold.errors.InputError` if the default prompt's name is not a known prompt."""
    if default_name is not None and default_name not in prompts:
        raise InputError(
            f"default_prompt_name {default_name!r}, given or stated in config_sentence_transformers.json, is not among "
            f"the prompts: {_names(prompts)}"
        )


def resolve(
    prompts: Mapping[str, str], default_name: str | None, prompt: str | None = None, prompt_name: str | None = None
) -> str | None:
    """Return the prompt that a call means, or None for none.

    Args:
        prompts: The model's prompts by name.
        default_name: Name of the prompt used when the call names none.
        prompt: The prompt itself; wins over ``prompt_name``, and ``""`` switches prompts off.
        prompt_name: A key of ``prompts``.

    Raises:
        InputError: If ``prompt_name`` is unknown.
    """
    if prompt is not None:
        if prompt_name is not None:
            logger.warning("both prompt and prompt_name are given; prompt_name=%r is ignored", prompt_name)
        return prompt or None
    name = prompt_name if prompt_name is not None else default_name
    if name is None:
        return None
    if name not in prompts:
        raise InputError(
            f"prompt name {name!r} is not among the prompts: {_names(prompts)}.{did_you_mean(name, prompts)}"
        )
    return prompts[name] or None


def name_for(prompts: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Return the first of ``names`` that the model's prompts hold."""
    return next((name for name in names if name in prompts), None)


def prepend(prompt: str | None, texts: Sequence[Any]) -> list[Any]:
    """Return the texts with the prompt before each; before the first text of a pair."""
    if not prompt:
        return list(texts)
    return [prompt + text if isinstance(text, str) else (prompt + text[0], text[1]) for text in texts]


def _names(prompts: Mapping[str, str]) -> str:
    return ", ".join(map(repr, prompts)) or "(none)"
