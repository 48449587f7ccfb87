"""Render conversations by a chat template, and see to it that a cut text still ends as the template ends."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from fourfold.containers import Tokens
from fourfold.errors import InputError
from fourfold.text.messages import PAIR_ROLES, Conversation, is_text_only, with_texts

# Two texts that share no token at their ends: what two renders of them share is the template's own.
_FILLERS = ("0", "1 2 3 4")
# Endings remembered; each distinct order of roles has one.
_MOST_ENDINGS = 256


class ChatTemplate:
    """The chat template of a tokenizer or processor of transformers.

    Args:
        processor: Has ``apply_chat_template`` and ``chat_template``.
        tokenize: Turns rendered texts into token ids, without adding special tokens or cutting.
        message_format: ``structured`` or ``flat``, the format of a message's content.
    """

    def __init__(
        self,
        processor: Any,
        tokenize: Callable[[Sequence[str]], Tokens],
        message_format: str,
    ) -> None:
        self._processor = processor
        self._tokenize = tokenize
        self.message_format = message_format
        self._endings: OrderedDict[str, list[int]] = OrderedDict()
        self._checked: set[str] = set()

    def render(self, chats: list[Conversation], options: Mapping[str, Any]) -> list[str]:
        """Return the text of each conversation.

        Args:
            chats: The conversations.
            options: Variables of the template, and arguments of ``apply_chat_template`` such as
                ``add_generation_prompt``.
        """
        return self._processor.apply_chat_template(chats, tokenize=False, **options)

    def uses(self, variable: str) -> bool:
        """Whether the template reads a variable."""
        template = self._processor.chat_template
        return isinstance(template, str) and variable in _variables(template)

    def check_pairs(self, options: Mapping[str, Any]) -> None:
        """Raise :class:`~fourfold.errors.InputError` unless the template shows both the query and the document."""
        key = _key(options)
        if key in self._checked:
            return
        advice = (
            "Give the processor a chat template that renders messages of both roles, for example: "
            "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }}\\n{% endfor %}"
        )
        shown = [self._pair(query, document, options, advice) for query, document in ("00", "10", "01")]
        for role, render in zip(PAIR_ROLES, shown[1:], strict=True):
            if render == shown[0]:
                raise InputError(f"the chat template leaves out messages of the role {role!r}. {advice}")
        self._checked.add(key)

    def _pair(self, query: str, document: str, options: Mapping[str, Any], advice: str) -> str:
        texts = zip(PAIR_ROLES, (query, document), strict=True)
        chat = [with_texts([{"role": role, "content": self._empty()}], f"probe {text}")[0] for role, text in texts]
        try:
            return self.render([chat], options)[0]
        except Exception as error:  # a template may raise whatever it likes
            raise InputError(
                f"the chat template cannot render messages of the roles 'query' and 'document': {error}. {advice}"
            ) from error

    def _empty(self) -> Any:
        return "" if self.message_format == "flat" else [{"type": "text", "text": ""}]

    def restore_endings(
        self, tokens: Tokens, chats: list[Conversation], max_length: int | None, options: Mapping[str, Any]
    ) -> Tokens:
        """Return the tokens with the template's own ending put back where a text was cut.

        A template that closes with a marker, such as the one that asks for an answer, means little without it.

        Args:
            tokens: Of the rendered conversations, cut to ``max_length``.
            chats: The conversations.
            max_length: Tokens to which they were cut; None for uncut ones.
            options: As for :meth:`render`.
        """
        if max_length is None:
            return tokens
        cut = [row for row in np.flatnonzero(tokens.lengths >= max_length) if is_text_only([chats[row]])]
        if not cut:
            return tokens
        ids = tokens.ids.copy()
        for row in cut:
            ending = self._ending(chats[row], options)[-max_length:]
            end = tokens.offsets[row + 1]
            ids[end - len(ending) : end] = ending
        return Tokens(ids, tokens.offsets, tokens.type_ids)

    def restore_padded(
        self, features: Any, chats: list[Conversation], max_length: int, options: Mapping[str, Any]
    ) -> None:
        """Do what :meth:`restore_endings` does in padded ``input_ids`` and ``attention_mask`` ``[rows, longest]``."""
        kept = np.asarray(features["attention_mask"]) == 1
        ids = np.asarray(features["input_ids"])
        tokens = Tokens(ids[kept].astype(np.int32), np.concatenate([[0], np.cumsum(kept.sum(axis=1))]))
        # numpy shares the tensor's memory, so this writes into the features.
        ids[kept] = self.restore_endings(tokens, chats, max_length, options).ids

    def _ending(self, chat: Conversation, options: Mapping[str, Any]) -> list[int]:
        """Return the ids that every conversation with these roles ends in."""
        skeletons = [with_texts(chat, filler) for filler in _FILLERS]
        key = "\n".join((json.dumps(skeletons[0], default=str), _key(options), str(self._processor.chat_template)))
        if key not in self._endings:
            tokens = self._tokenize(self.render(skeletons, options))
            first, second = (
                tokens.ids[start:end].tolist()
                for start, end in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
            )
            self._endings[key] = _common_ending(first, second)
            if len(self._endings) > _MOST_ENDINGS:
                self._endings.popitem(last=False)
        return self._endings[key]


def _common_ending(first: list[int], second: list[int]) -> list[int]:
    count = 0
    for a, b in zip(reversed(first), reversed(second), strict=False):
        if a != b:
            break
        count += 1
    return first[len(first) - count :]


def _key(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True, default=str)


@cache
def _variables(template: str) -> frozenset[str]:
    """Return the variables that a template takes from outside; none if it cannot be read."""
    from jinja2 import Environment, TemplateSyntaxError, meta

    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    # A block of transformers' own: it marks what a model has generated, and adds nothing to the text.
    template = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", template)
    try:
        return frozenset(meta.find_undeclared_variables(environment.parse(template)))
    except TemplateSyntaxError:
        return frozenset()
