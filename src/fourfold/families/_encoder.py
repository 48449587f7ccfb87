"""Encoders that need no torch: what those of every family share, numpy in and out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from fourfold.backends import Backend, Batch
from fourfold.errors import check_positive
from fourfold.ops.similarity import SimilarityFunction, similarity_name
from fourfold.store.fingerprint import fingerprint
from fourfold.store.manifest import ModelConfig
from fourfold.store.source import Source
from fourfold.text import prompts as prompting


@dataclass(frozen=True)
class Call:
    """What a caller asked of ``encode``, checked: the prompt's text, the task and how to run."""

    prompt: str | None = None
    task: str | None = None
    batch_size: int = 32
    progress: bool = False


class Encoder(ABC):
    """An encoder over any backend.

    Attributes:
        name: Folder or hub name of the model.
        model_type: The family, by the name of its class.
        prompts: Prompts by name.
        default_prompt_name: The prompt used when a call names none.
        similarity_fn_name: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``.
        backend: Name of what runs the model.
    """

    model_type: ClassVar[str]
    backend: ClassVar[str]
    _default_similarity: ClassVar[str]

    def __init__(self, source: Source, config: ModelConfig) -> None:
        self._source = source
        self.name = source.name
        self.prompts = prompting.merge(None, config.prompts, ("query", "document"))
        self.default_prompt_name = config.default_prompt_name
        prompting.check_default(self.prompts, self.default_prompt_name)
        self.similarity_fn_name = config.similarity_fn_name or self._default_similarity

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the model's content, which changes with its settings, tokenizer or weights."""
        return fingerprint(self._source)

    @abstractmethod
    def get_embedding_dimension(self) -> int:
        """Return the width of the vectors."""

    @abstractmethod
    def encode(self, *args: Any, **kwargs: Any) -> Any:
        """Turn one text or a batch into vectors, in the order given."""

    def encode_query(self, inputs: Any, **options: Any) -> Any:
        """Encode queries: :meth:`encode` with the ``query`` prompt and task."""
        return self.encode(inputs, task="query", **self._prompted(prompting.QUERY_NAMES, options))

    def encode_document(self, inputs: Any, **options: Any) -> Any:
        """Encode documents: :meth:`encode` with the ``document`` prompt and task."""
        return self.encode(inputs, task="document", **self._prompted(prompting.DOCUMENT_NAMES, options))

    def _prompted(self, names: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
        if options.get("prompt") is None and options.get("prompt_name") is None:
            return {**options, "prompt_name": prompting.name_for(self.prompts, names)}
        return options

    def _call(
        self,
        prompt_name: str | None,
        prompt: str | None,
        *,
        task: str | None,
        batch_size: int,
        progress: bool,
    ) -> Call:
        """Return the checked arguments that ``encode`` has in every family."""
        check_positive(batch_size=batch_size)
        text = prompting.resolve(self.prompts, self.default_prompt_name, prompt, prompt_name)
        return Call(text, task, batch_size, progress)


def saved_settings(
    source: Source,
    *,
    prompts: dict[str, str] | None,
    default_prompt_name: str | None,
    similarity_fn_name: str | None,
) -> ModelConfig:
    """Return the settings of a folder, with those that are given in place of its own."""
    saved = ModelConfig.read(source)
    known = saved.similarity_fn_name in SimilarityFunction.possible_values()
    similarity = saved.similarity_fn_name if known else None
    return ModelConfig(
        model_type=saved.model_type,
        prompts=prompting.merge(prompts, saved.prompts, ()),
        default_prompt_name=saved.default_prompt_name if default_prompt_name is None else default_prompt_name,
        similarity_fn_name=similarity if similarity_fn_name is None else similarity_name(similarity_fn_name),
        extra=saved.extra,
    )


def model_of(family: Any, source: Source, **options: Any) -> Any:
    """Return a family's model over a folder."""
    return family(
        source.name, revision=source.revision, token=source.token, cache_folder=source.cache,
        local_files_only=source.offline, **options,
    )  # fmt: skip


def built(family: Any, source: Source, **options: Any) -> tuple[Any, ModelConfig]:
    """Return a family's model over a folder, and its settings."""
    model = model_of(family, source, **options)
    config = ModelConfig(family.model_type, model.prompts, model.default_prompt_name, model.similarity_fn_name)
    return model, config


class Prompted:
    """A backend that puts a prompt before each text."""

    def __init__(self, backend: Backend, prompt: str) -> None:
        self._backend = backend
        self._prompt = prompt
        self.packed = backend.packed
        self.run, self.out_of_memory = backend.run, backend.out_of_memory

    @property
    def best_tokens(self) -> int:
        """As the backend's."""
        return self._backend.best_tokens

    def prepare(self, items: Sequence[Any]) -> Batch:
        """Tokenise inputs, each with the prompt before it."""
        return self._backend.prepare(prompting.prepend(self._prompt, items))


def torch_options(call: Call) -> dict[str, Any]:
    """Return a call as arguments of the ``encode`` of a torch model."""
    return {
        "prompt": call.prompt or "",
        "batch_size": call.batch_size,
        "show_progress_bar": call.progress,
        **({} if call.task is None else {"task": call.task}),
    }
