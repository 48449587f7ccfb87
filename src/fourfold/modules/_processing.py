"""Call a transformers processor on a sorted batch: arguments by modality, merged from three places."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import torch

from fourfold.errors import InputError
from fourfold.notices import warn_once
from fourfold.text.messages import Conversation
from fourfold.text.pairs import Cut
from fourfold.text.samples import Samples

logger = logging.getLogger(__name__)

KEYS = ("common", "text", "audio", "image", "video", "chat_template")
_TEXT = {"padding": True, "truncation": "longest_first"}
# A processor's name for the inputs of each modality, and for their arguments.
ARGUMENTS = {"text": "text", "image": "images", "audio": "audio", "video": "videos"}
_GROUPS = {"text": "text_kwargs", "image": "images_kwargs", "audio": "audio_kwargs", "video": "videos_kwargs"}
# Processors that take their arguments without groups.
_UNGROUPED = ("clipseg", "whisper", "sam3")


@dataclass
class Options:
    """Arguments of a processor's call.

    Attributes:
        common: For every modality.
        text: For the tokenizer.
        audio: For the feature extractor.
        image: For the image processor.
        video: For the video processor.
        chat_template: Variables of the chat template and arguments of ``apply_chat_template``.
        logits_to_keep: How many last positions a causal model computes logits for; 0 is all.
        restore_suffix: Whether a cut conversation gets its template's ending back.
        plain: Whether ``text`` and ``common`` say nothing but a length, and which text of a pair is cut: then texts can
            be tokenised apart and packed.
    """

    common: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    audio: dict[str, Any] = field(default_factory=dict)
    image: dict[str, Any] = field(default_factory=dict)
    video: dict[str, Any] = field(default_factory=dict)
    chat_template: dict[str, Any] = field(default_factory=dict)
    logits_to_keep: int = 1
    restore_suffix: bool = True
    plain: bool = True

    @property
    def cut(self) -> Cut:
        """Which text of a pair that is too long is cut."""
        cut = self.text.get("truncation")
        return cut if cut in ("only_first", "only_second") else "longest_first"


def check_keys(given: Mapping[str, Any] | None) -> None:
    """Warn of keys of ``processing_kwargs`` that mean nothing."""
    unknown = [key for key in given or {} if key not in KEYS]
    if unknown:
        warn_once(logger, f"processing_kwargs: unknown keys {unknown} are ignored; known are {', '.join(KEYS)}")


def merged(own: Mapping[str, Any], given: Mapping[str, Any] | None, model_type: str = "") -> Options:
    """Return the arguments of a call: the defaults, over them the module's own, over them the caller's.

    Args:
        own: The module's ``processing_kwargs``.
        given: The caller's.
        model_type: The model's type; Whisper pads audio to the length it was trained on.

    Raises:
        InputError: If ``logits_to_keep`` is no count.
    """
    check_keys(given)
    asked = {key: {**own.get(key, {}), **(given or {}).get(key, {})} for key in KEYS}
    logits = asked["text"].pop("logits_to_keep", 1)
    if not isinstance(logits, int) or isinstance(logits, bool) or logits < 0:
        raise InputError(f"logits_to_keep must be an integer of at least 0, got {logits!r}")
    text = {**_TEXT, **asked["text"]}
    plain = (
        not asked["common"]
        and text.keys() <= {*_TEXT, "max_length"}
        and text["padding"] in (True, "longest")
        and text["truncation"] in (True, *get_args(Cut))
    )
    chat = asked["chat_template"]
    restore = chat.pop("restore_suffix", True)
    audio = {"padding": "max_length" if model_type == "whisper" else True, **asked["audio"]}
    common = {"return_tensors": "pt", **asked["common"]}
    return Options(common, text, audio, asked["image"], asked["video"], chat, logits, restore, plain)


def call(processor: Any, samples: Samples, options: Options) -> Any:
    """Return the features of a batch that is not made of messages.

    Args:
        processor: A tokenizer, image processor, feature extractor, video processor, or one of several of these.
        samples: The batch; ``text`` may hold pairs.
        options: Arguments of the call.
    """
    groups = {kind: {**getattr(options, kind), **samples.options.get(kind, {})} for kind in ARGUMENTS}
    values = dict(samples.values)
    if "text" in values:
        values["text"] = [text if isinstance(text, str) else tuple(text) for text in values["text"]]
    if not _is_multimodal(processor):
        (kind, value), *others = values.items()
        if others:
            raise InputError(f"{type(processor).__name__} takes one kind of input at a time, got {list(values)}")
        return processor(value, **groups[kind], **options.common)
    inputs = {ARGUMENTS[kind]: value for kind, value in values.items()}
    if any(type(processor).__name__.lower().startswith(name) for name in _UNGROUPED):
        flat = {key: value for kind in values for key, value in groups[kind].items()}
        return processor(**inputs, **flat, **options.common)
    return processor(**inputs, **{_GROUPS[kind]: groups[kind] for kind in values}, common_kwargs=options.common)


def call_template(processor: Any, chats: list[Conversation], samples: Samples, options: Options) -> Any:
    """Return the features of a batch of conversations, images and other media included.

    Args:
        processor: Has a chat template.
        chats: The conversations.
        samples: What they were made from, for what describes audio and video.
        options: Arguments of the call.
    """
    template = {"tokenize": True, "return_dict": True, **options.chat_template}
    if not _is_multimodal(processor):
        text = dict(options.text)
        own = {key: text.pop(key) for key in ("padding", "truncation", "max_length") if key in text}
        return processor.apply_chat_template(chats, tokenizer_kwargs=text, **own, **options.common, **template)
    groups = {_GROUPS[kind]: {**getattr(options, kind), **samples.options.get(kind, {})} for kind in ARGUMENTS}
    arguments: dict[str, Any] = {key: value for key, value in groups.items() if value}
    arguments["common_kwargs"] = options.common
    if "processor_kwargs" in inspect.signature(processor.apply_chat_template).parameters:
        return processor.apply_chat_template(chats, processor_kwargs=arguments, **template)
    return processor.apply_chat_template(chats, **arguments, **template)


def _is_multimodal(processor: Any) -> bool:
    from transformers import ProcessorMixin

    return isinstance(processor, ProcessorMixin)


def tokenizer_of(processor: Any) -> Any:
    """Return the tokenizer of a processor: itself if it is one, None if it has none."""
    from transformers import PreTrainedTokenizerBase

    return processor if isinstance(processor, PreTrainedTokenizerBase) else getattr(processor, "tokenizer", None)


def count_media(features: Any, counts: list[int], kind: str) -> None:
    """Note how many images or videos each conversation has, so that a batch can be taken apart again."""
    features[f"num_{kind}s_per_sample"] = torch.tensor(counts, dtype=torch.int64)


def check_left_padding(features: Mapping[str, Any]) -> None:
    """Raise :class:`~fourfold.errors.InputError` if a row ends in padding: a causal model reads its last position."""
    mask = features.get("attention_mask")
    if mask is not None and not bool((mask[:, -1] == 1).all()):
        raise InputError("a causal model needs texts padded on the left; set tokenizer.padding_side = 'left'")


def for_retrieval(samples: Samples, task: Any) -> None:
    """Make a batch fit for the processors of retrieval models, which read images as documents and texts as queries."""
    if "text" in samples.values and task not in (None, "query"):
        warn_once(logger, f"task={task!r}: this model reads texts as queries; its documents are images")
    if "image" in samples.values:
        samples.values["image"] = [_as_image(value) for value in samples.values["image"]]


def _as_image(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    from transformers.image_utils import load_image

    return load_image(value).convert("RGB")
