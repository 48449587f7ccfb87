"""Inputs as chat messages: what a model with a chat template reads instead of bare texts.

A conversation is a list of messages ``{"role": ..., "content": ...}``. A template expects content in one of two
formats: ``structured``, a list of parts ``{"type": "text", "text": ...}``, or ``flat``, the value itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fourfold.notices import warn_once
from fourfold.text.inputs import is_pair
from fourfold.text.samples import Pair, Samples, is_frames

logger = logging.getLogger(__name__)

Message = dict[str, Any]
Conversation = list[Message]

PAIR_ROLES = ("query", "document")
STRUCTURED, FLAT = "structured", "flat"

# Model types whose templates read a part's type and take plain strings all the same.
KNOWN_MODEL_TYPES_MESSAGE_FORMATS = dict.fromkeys(("apertus", "deepseek_v3", "gpt_oss", "seed_oss"), FLAT)
# What a template says that goes through the parts of a content.
_READS_PARTS = ("content[0]", ".type", "'type'", '"type"', "item.type", "message.content[")


def message_format(model_type: str, chat_template: Any) -> str:
    """Return the format of content that a chat template expects.

    Args:
        model_type: The model's type, as its config names it.
        chat_template: The template; anything but a string counts as none.

    >>> message_format("qwen3", "{% for m in messages %}{{ m.content }}{% endfor %}")
    'flat'
    """
    if not isinstance(chat_template, str):
        return STRUCTURED
    known = KNOWN_MODEL_TYPES_MESSAGE_FORMATS.get(model_type)
    return known or (STRUCTURED if any(mark in chat_template for mark in _READS_PARTS) else FLAT)


def conversations(samples: Samples, format: str) -> list[Conversation]:  # noqa: A002 - the key's name in saved folders
    """Return one conversation for each sample; those that the caller wrote stay as they are.

    A sample becomes a message of the role ``user``; a pair one message each of the roles ``query`` and ``document``.
    """
    if samples.modality == "message":
        return [_conversation(part, format) for part in samples.parts]
    names = list(samples.values)
    rows = zip(*samples.values.values(), strict=True)
    return [_of_row(dict(zip(names, row, strict=True)), format) for row in rows]


def _of_row(parts: dict[str, Any], format: str) -> Conversation:  # noqa: A002
    text: Any = parts.get("text")
    if len(parts) == 1 and is_pair(text):
        return _conversation(Pair({"text": text[0]}, {"text": text[1]}), format)
    return _conversation(parts, format)


def _conversation(part: Any, format: str) -> Conversation:  # noqa: A002
    if isinstance(part, list):
        return part
    if isinstance(part, Pair):
        return [
            {"role": role, "content": _content(half, format)}
            for role, half in zip(PAIR_ROLES, (part.first, part.second), strict=True)
        ]
    return [{"role": "user", "content": _content(part, format)}]


def _content(parts: dict[str, Any], format: str) -> Any:  # noqa: A002
    if format == FLAT:
        if len(parts) == 1:
            return next(iter(parts.values()))
        warn_once(logger, "the chat template takes plain contents; an input of several modalities is given in parts")
    return [{"type": name, name: value} for name, values in parts.items() for value in _each(name, values)]


def _each(name: str, values: Any) -> Sequence[Any]:
    several = isinstance(values, (list, tuple)) and not (name == "video" and is_frames(values))
    return values if several else [values]


def with_system(chats: list[Conversation], prompt: str, format: str) -> list[Conversation]:  # noqa: A002
    """Return the conversations with the prompt as a message of the role ``system`` in front of each."""
    system = {"role": "system", "content": _content({"text": prompt}, format)}
    return [[system, *chat] for chat in chats]


def has_pair_roles(chats: list[Conversation]) -> bool:
    """Whether some conversation has a query and a document."""
    return any(set(PAIR_ROLES) <= {message.get("role") for message in chat} for chat in chats)


def is_text_only(chats: list[Conversation]) -> bool:
    """Whether every content is a text or parts that are texts."""
    return all(_is_text(message.get("content")) for chat in chats for message in chat)


def _is_text(content: Any) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, dict) and part.get("type") == "text" for part in content)
    return isinstance(content, str)


def with_texts(chat: Conversation, text: str) -> Conversation:
    """Return a text-only conversation with every text replaced: what a template adds, and nothing else, stays."""
    return [{**message, "content": _replaced(message.get("content"), text)} for message in chat]


def _replaced(content: Any, text: str) -> Any:
    return [{**part, "text": text} for part in content] if isinstance(content, list) else text


def count_parts(chats: list[Conversation], kind: str) -> list[int]:
    """Return how many parts of one kind, such as ``image``, each conversation has."""
    return [
        sum(
            isinstance(part, dict) and part.get("type") == kind
            for message in chat
            if isinstance(message.get("content"), list)
            for part in message["content"]
        )
        for chat in chats
    ]
