"""What kind of input a sample is: text, image, audio, video, chat messages, or several of them at once.

A modality is a name, or a sorted tuple of names for a sample that combines several; printed and stored joined with
``+``. Nothing here imports an image, audio or tensor library: their objects are known by their classes.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlparse

import numpy as np

from fourfold.errors import InputError
from fourfold.text.inputs import is_pair, short

Modality = str | tuple[str, ...]
"""``text``, ``image``, ``audio``, ``video``, ``message``, or a sorted tuple of the first four."""

NAMES = ("text", "image", "audio", "video", "message")
MULTIMODAL_DICT_KEYS = frozenset(("text", "image", "audio", "video"))

_SUFFIXES = {
    "image": (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tiff", ".webp"),
    "video": (".mp4", ".avi", ".mov", ".wmv", ".flv", ".mkv"),
    "audio": (".mp3", ".wav", ".ogg", ".flac", ".aac"),
}
_VIDEO_HOSTS = ("youtube.com", "www.youtube.com", "m.youtube.com", "youtu.be")
_EXPECTED = (
    "a string, a pair of strings, an image, audio or video as an array or a decoder, a dictionary with keys among "
    "text, image, audio, video, or chat messages"
)


def infer_modality(sample: Any, supported_modalities: Collection[Modality] | None = None) -> Modality:
    """Return the modality of one sample.

    Args:
        sample: A string (a text, or the path or URL of a file), a pair of strings, an image, an array, a decoder of
            torchcodec, a dictionary, or chat messages.
        supported_modalities: What the model takes: the path of an image is a text for a model that takes no images.
            None tells by the sample alone.

    Raises:
        InputError: If the sample is none of these.

    >>> infer_modality("a text"), infer_modality("https://x.org/cat.png"), infer_modality({"text": "a", "image": "b"})
    ('text', 'image', ('image', 'text'))
    """
    if isinstance(sample, str):
        return _of_string(sample, supported_modalities)
    if is_pair(sample):
        return "text"
    if is_conversation(sample):
        return "message"
    if isinstance(sample, dict):
        return _of_dictionary(sample)
    media = _of_object(sample)
    if media is not None:
        return media
    if is_array(sample):
        return _of_array(sample)
    raise InputError(f"Unsupported input type: {type(sample).__name__} ({short(sample)}); give {_EXPECTED}.")


def infer_batch_modality(samples: Sequence[Any], supported_modalities: Collection[Modality] | None = None) -> Modality:
    """Return the modality that all samples share, or ``message`` if they differ; ``text`` for no samples."""
    found = {infer_modality(sample, supported_modalities) for sample in samples}
    return "message" if len(found) > 1 else next(iter(found), "text")


def supports(supported: Collection[Modality], modality: Modality) -> bool:
    """Whether a model takes a modality: by name, or part by part in chat messages.

    >>> supports(["text", "image", "message"], ("image", "text")), supports(["text", "image"], ("image", "text"))
    (True, False)
    """
    if modality in supported:
        return True
    return isinstance(modality, tuple) and "message" in supported and all(part in supported for part in modality)


def format_modality(modality: Modality) -> str:
    """Return how a modality is printed and stored.

    >>> format_modality(("image", "text"))
    'image+text'
    """
    return "+".join(modality) if isinstance(modality, tuple) else modality


def parse_modality(name: str) -> Modality | None:
    """Return the modality that a stored name means, its parts in their stored order; None if it is unknown."""
    parts = tuple(name.split("+"))
    if not all(part in NAMES for part in parts):
        return None
    return parts if len(parts) > 1 else parts[0]


def raise_unsupported_modality_error(
    inputs: Sequence[Any], modality: Modality, supported_modalities: Collection[Modality], source: str
) -> NoReturn:
    """Raise for inputs of a modality that a model does not take.

    Args:
        inputs: The batch.
        modality: What it was found to be.
        supported_modalities: What the model takes.
        source: Name of the model's class.

    Raises:
        InputError: Always, with what can be done about it.
    """
    taken = ", ".join(map(format_modality, supported_modalities)) or "none"
    ends = f"{source} takes: {taken}."
    if isinstance(modality, tuple):
        if all(part in supported_modalities for part in modality):
            raise InputError(f"inputs that combine {format_modality(modality)} need chat messages; {ends}")
        raise InputError(f"inputs that combine {format_modality(modality)} are not supported; {ends}")
    if any(is_conversation(sample) for sample in inputs):
        raise InputError(f"chat messages need a model with a chat template; {ends}")
    for position, sample in enumerate(inputs):
        kind = None if is_mixed_pair(sample) else infer_modality(sample, supported_modalities)
        if kind is not None and not supports(supported_modalities, kind):
            shown = f"{type(sample).__name__} ({short(sample)})"
            raise InputError(
                f"Unsupported input type at position {position}: {shown} is {format_modality(kind)}; {ends}"
            )
    raise InputError(f"this model takes one kind of input a batch; encode each kind in a call of its own. {ends}")


# -- kinds of sample ---------------------------------------------------------------------------------------------------


def is_message(value: Any) -> bool:
    """Whether ``value`` is one chat message: a dictionary with ``role`` and ``content``."""
    return isinstance(value, dict) and "role" in value and "content" in value


def is_conversation(value: Any) -> bool:
    """Whether ``value`` is a chat message or a list that begins with one."""
    return is_message(value) or (isinstance(value, list) and bool(value) and is_message(value[0]))


def is_mixed_pair(value: Any) -> bool:
    """Whether ``value`` is a pair, but not of two strings: its parts get chat roles of their own."""
    if not isinstance(value, (tuple, list)) or len(value) != 2 or is_pair(value):
        return False
    return not any(is_conversation(part) for part in value)


def is_array(value: Any) -> bool:
    """Whether ``value`` is a numpy array or a torch tensor."""
    torch = sys.modules.get("torch")
    return isinstance(value, np.ndarray) or (torch is not None and isinstance(value, torch.Tensor))


def is_decoder(value: Any, kind: str) -> bool:
    """Whether ``value`` is torchcodec's ``AudioDecoder`` or ``VideoDecoder``."""
    return any(base.__name__ == kind and base.__module__.startswith("torchcodec") for base in type(value).__mro__)


def is_image(value: Any) -> bool:
    """Whether ``value`` is an image of Pillow."""
    return any(base.__name__ == "Image" and base.__module__.startswith("PIL.") for base in type(value).__mro__)


def is_media_file(text: str, kind: str) -> bool:
    """Whether a string names an image, video or audio: an existing file, or a URL, with a suffix of that kind."""
    if kind == "image" and text.startswith("data:image/"):
        return True
    if text.startswith(("http://", "https://")):
        if " " in text:
            return False
        url = urlparse(text)
        return url.path.lower().endswith(_SUFFIXES[kind]) or (kind == "video" and url.netloc in _VIDEO_HOSTS)
    # The suffix first: most texts have none, and then no file system is asked.
    return text[-5:].lower().endswith(_SUFFIXES[kind]) and _is_file(text)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for the file system, or with a NUL
        return False


def _of_string(text: str, supported: Collection[Modality] | None) -> str:
    for kind in _SUFFIXES:
        if (supported is None or kind in supported) and is_media_file(text, kind):
            return kind
    return "text"


def _of_object(sample: Any) -> str | None:
    if is_image(sample):
        return "image"
    if is_decoder(sample, "AudioDecoder"):
        return "audio"
    return "video" if is_decoder(sample, "VideoDecoder") else None


def _of_dictionary(sample: dict[Any, Any]) -> Modality:
    if not sample:
        raise InputError(f"an empty dictionary is no input; give {_EXPECTED}")
    if "array" in sample:
        for key, kind in (("sampling_rate", "audio"), ("video_metadata", "video")):
            if key in sample:
                return kind
        raise InputError(
            "a dictionary with 'array' needs 'sampling_rate' (audio) or 'video_metadata' (video) beside it"
        )
    unknown = [key for key in sample if key not in MULTIMODAL_DICT_KEYS]
    if unknown:
        hint = ""
        if {"sampling_rate", "video_metadata"} & set(unknown):
            hint = (
                " Put 'sampling_rate' and 'video_metadata' beside the 'array' they describe: "
                "{'audio': {'array': ..., 'sampling_rate': ...}}."
            )
        raise InputError(f"unknown keys {unknown} in a dictionary input; known are text, image, audio, video.{hint}")
    names = sorted(sample)
    return tuple(names) if len(names) > 1 else names[0]


def _of_array(sample: Any) -> str:
    kinds = {1: "audio", 2: "audio", 3: "image", 4: "video", 5: "video"}
    if sample.ndim not in kinds:
        raise InputError(
            f"an array with {sample.ndim} dimensions is no input; audio has 1 or 2, an image 3, a video 4 or 5"
        )
    return kinds[sample.ndim]
