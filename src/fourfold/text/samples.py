"""Sort a batch of inputs into lists by modality, as a processor takes them, with what describes audio and video."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from fourfold.errors import InputError
from fourfold.text.inputs import is_pair
from fourfold.text.modality import (
    Modality,
    infer_modality,
    is_array,
    is_decoder,
    is_image,
    is_message,
    is_mixed_pair,
)

_ABSENT = object()


@dataclass
class Samples:
    """A batch, sorted.

    Attributes:
        modality: What every sample is; ``message`` if they differ.
        values: For each part of the modality the value of every sample, in order. A sample of several parts has one in
            each list. Empty for ``message``.
        parts: For ``message``: one entry a sample, a conversation (list of messages), a :class:`Pair`, or a dictionary
            from modality to value.
        options: Arguments for the processor by modality: ``audio`` may have ``sampling_rate``, ``video``
            ``video_metadata`` (one a sample).
    """

    modality: Modality
    values: dict[str, list[Any]] = field(default_factory=dict)
    parts: list[Any] = field(default_factory=list)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def media(self) -> list[str]:
        """Kinds of input other than text in the batch, besides those inside conversations."""
        kinds = set(self.values)
        for part in self.parts:
            halves = (part.first, part.second) if isinstance(part, Pair) else (part,)
            kinds.update(*(half for half in halves if isinstance(half, dict)))
        return sorted(kinds - {"text"})


@dataclass(frozen=True)
class Pair:
    """Two inputs that one score is about; each is a dictionary from modality to value."""

    first: dict[str, Any]
    second: dict[str, Any]


def sort_samples(inputs: Sequence[Any], supported: Collection[Modality] | None = None) -> Samples:
    """Return a batch sorted by modality.

    Dictionaries with one key count as their value. Samples of one modality stay as they are. A batch that mixes
    modalities, or holds a pair that is not of two strings, becomes parts of chat messages.

    Args:
        inputs: The batch.
        supported: What the model takes.

    Raises:
        InputError: If a sample is of no known kind, or audio has several sampling rates.
    """
    if all(type(sample) is str for sample in inputs) and (supported is None or not _takes_media(supported)):
        return Samples("text", {"text": list(inputs)})
    details = _Details()
    pairs = any(is_mixed_pair(sample) for sample in inputs)
    sorted_inputs = [_sort(sample, supported, details, pairs) for sample in inputs]
    modality = _common(sorted_inputs, supported)
    options = details.options(sorted_inputs, modality)
    if modality == "message":
        return Samples(modality, parts=[part for _, part in sorted_inputs], options=options)
    names = list(sorted_inputs[0][1]) if sorted_inputs else ["text"]
    values = {name: [part[name] for _, part in sorted_inputs] for name in names}
    return Samples(modality, values, options=options)


def _takes_media(supported: Collection[Modality]) -> bool:
    return any(kind in supported for kind in ("image", "audio", "video"))


def _sort(sample: Any, supported: Any, details: _Details, pairs: bool) -> tuple[Modality, Any]:
    """Return a sample's modality and its parts: a dictionary by modality, a conversation, or a pair."""
    if is_mixed_pair(sample) or (pairs and is_pair(sample)):
        first, second = (_sort(part, supported, details, pairs=False)[1] for part in sample)
        return "message", Pair(first, second)
    modality = infer_modality(sample, supported)
    if modality == "message":
        return modality, [sample] if is_message(sample) else sample
    parts = sample if isinstance(sample, dict) and "array" not in sample else {str(modality): sample}
    return modality, {name: details.unwrap(name, value) for name, value in parts.items()}


def _common(sorted_inputs: list[tuple[Modality, Any]], supported: Collection[Modality] | None) -> Modality:
    found = {modality for modality, _ in sorted_inputs}
    if len(found) != 1:
        return "message" if found else "text"
    modality = found.pop()
    if isinstance(modality, tuple) and supported is not None and "message" in supported:
        # Whether the image stands before or after the text is kept by messages alone.
        orders = {tuple(parts) for _, parts in sorted_inputs}
        return "message" if len(orders) > 1 else modality
    return modality


class _Details:
    """What is said about audio and video beside their samples, gathered over a batch."""

    def __init__(self) -> None:
        self._rate: int | None = None
        self._videos: list[tuple[Any, Any]] = []

    def unwrap(self, name: str, value: Any) -> Any:
        """Return the bare audio or video inside ``value``, keeping what describes it."""
        if name == "audio":
            return self._audio(value)
        if name == "video":
            return self._video(value)
        return value

    def _audio(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._audio(part) for part in value]
        if is_decoder(value, "AudioDecoder"):
            heard = value.get_all_samples()
            self._record(heard.sample_rate)
            return heard.data.mean(dim=0).numpy()
        if isinstance(value, dict) and "array" in value:
            if value.get("sampling_rate") is not None:
                self._record(value["sampling_rate"])
            return value["array"]
        return value

    def _record(self, rate: int) -> None:
        if self._rate is not None and rate != self._rate:
            raise InputError(
                f"the batch mixes audio sampled at {self._rate} and at {rate} Hz; a processor takes one rate a batch. "
                "Resample the audio, or encode each rate in a call of its own."
            )
        self._rate = rate

    def _video(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and not is_frames(value):
            return [self._video(part) for part in value]
        metadata = _ABSENT
        if isinstance(value, dict) and "array" in value:
            metadata = _ABSENT if value.get("video_metadata") is None else value["video_metadata"]
            value = value["array"]
        self._videos.append((value, metadata))
        return [value] if is_frames(value) else value

    def options(self, sorted_inputs: list[tuple[Modality, Any]], modality: Modality) -> dict[str, dict[str, Any]]:
        """Return the processor's arguments for audio and video."""
        options: dict[str, dict[str, Any]] = {}
        if self._rate is not None:
            options["audio"] = {"sampling_rate": self._rate}
        if any(metadata is not _ABSENT for _, metadata in self._videos):
            options["video"] = {"video_metadata": [_metadata(video, given) for video, given in self._videos]}
        return options


def is_frames(value: Any) -> bool:
    """Whether a list holds the frames of one video: images, or their arrays."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    return all(is_image(frame) or (is_array(frame) and frame.ndim == 3) for frame in value)


def _metadata(video: Any, given: Any) -> Any:
    """Return what describes a video; of one in memory at least its number of frames is known."""
    if given is not _ABSENT:
        return given
    if not is_array(video) and not isinstance(video, (list, tuple)):
        raise InputError(
            "the batch mixes videos with 'video_metadata' and a video without that is not in memory; give it for all"
        )
    count = len(video)
    return {"total_num_frames": count, "fps": None, "duration": None, "frames_indices": list(range(count))}
