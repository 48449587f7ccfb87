"""Cross encoders: a pair of texts becomes a score, or a score for each of several labels."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from fourfold.engine.workers import WorkerPool
from fourfold.errors import InputError
from fourfold.families import _cross_predict, _encoding, _ranking
from fourfold.families._cross_arguments import older_init_arguments, older_predict_arguments, older_rank_arguments
from fourfold.families._cross_legacy import CrossLegacy
from fourfold.families._model import BaseModel, Loaded, ModelOptions, shows_model_options
from fourfold.families._precision import keep_in_float32
from fourfold.families.model_card import BaseModelCardData, CrossEncoderModelCardData
from fourfold.modules import _activation
from fourfold.modules.dense import Dense
from fourfold.modules.logit_score import LogitScore
from fourfold.modules.transformer import Transformer
from fourfold.store.manifest import CONFIG_FILE, architectures
from fourfold.text.inputs import is_single_pair, strings_as_lists

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

# What config.json called the activation before it was kept beside the modules.
_OLDEST_KEY = "sbert_ce_default_activation_function"


class CrossEncoder(CrossLegacy, BaseModel):
    """Score pairs of texts: how well a document answers a query, or which of several labels a pair has.

    Both texts are read together, which tells more than comparing vectors, and costs a forward for each pair.

    Args:
        model_name_or_path: A folder, or a name on the hub; one without an organisation means ``cross-encoder/``. A
            causal language model scores by how much more it expects "yes" than "no" as the next token.
        modules: Modules to build the model from instead; the last one writes ``scores`` ``[rows, labels]``.
        device: Where to run; None takes the best that is there.
        num_labels: Scores of an input; None is the checkpoint's own number, one for a checkpoint without a head.
        max_length: Longest pair in tokens, special tokens included; the longer text of a longer one is cut.
        activation_fn: Applied to the scores. None is the saved one, else a sigmoid for one label and nothing for more.
        keep_in_fp32_modules: Paths of linear layers that compute in float32 in a model of half precision; None is the
            saved list.
        **kwargs: Those of every family: :class:`~fourfold.families._model.ModelOptions`.

    >>> from fourfold.testing import tiny
    >>> model = tiny("cross")
    >>> model.predict([("a query", "a document"), ("a query", "another")]).shape
    (2,)
    >>> [hit["corpus_id"] for hit in model.rank("a query", ["a document"])]
    [0]
    """

    model_type: ClassVar[str] = "CrossEncoder"
    default_huggingface_organization: ClassVar[str | None] = "cross-encoder"
    model_card_data_class: ClassVar[type[BaseModelCardData]] = CrossEncoderModelCardData

    @older_init_arguments
    @shows_model_options
    def __init__(
        self,
        model_name_or_path: str | None = None,
        *,
        modules: Any = None,
        device: str | torch.device | None = None,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
        keep_in_fp32_modules: Sequence[str] | None = None,
        **kwargs: Unpack[ModelOptions],
    ) -> None:
        if num_labels is not None:
            kwargs["config_kwargs"] = {**(kwargs.get("config_kwargs") or {}), "num_labels": num_labels}
        if max_length is not None:
            kwargs["processor_kwargs"] = {**(kwargs.get("processor_kwargs") or {}), "model_max_length": max_length}
        self.activation_fn = activation_fn
        self._saved_activation: Any = None
        self._in_float32: Any = keep_in_fp32_modules
        super().__init__(model_name_or_path, modules=modules, device=device, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        # An activation may be a module, and is none of the model's.
        if name == "activation_fn":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _post_init(self) -> None:
        names, self._in_float32 = self._in_float32, []
        if names:
            self.set_keep_in_fp32_modules(names)
        if self.activation_fn is None:
            self.activation_fn = self._named(self._saved_activation) or self.get_default_activation_fn()

    def _parse_model_config(self, model_config: dict[str, Any]) -> None:
        super()._parse_model_config(model_config)
        self._saved_activation = model_config.get("activation_fn")
        if self._in_float32 is None:
            self._in_float32 = model_config.get("keep_in_fp32_modules")

    def _get_model_config(self) -> dict[str, Any]:
        config = {**super()._get_model_config(), "activation_fn": _activation.path_of(self.activation_fn)}
        return {**config, "keep_in_fp32_modules": list(self._in_float32)} if self._in_float32 else config

    # -- loading -----------------------------------------------------------------------------------------------------

    def _load_default_modules(self, model_name_or_path: str, *args: Any, **kwargs: Any) -> Loaded:
        source, options = self._arguments(model_name_or_path, *args, **kwargs)
        keywords = options.keywords(source)
        config = Transformer.checkpoint_config(source, **keywords)
        if not "".join(architectures(config.architectures)[:1]).endswith("ForCausalLM"):
            keywords["transformer_task"] = "sequence-classification"
            return [Transformer.from_checkpoint(source, **keywords)], {}
        transformer = Transformer.from_checkpoint(source, **{**keywords, "transformer_task": "text-generation"})
        ids = [transformer.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no")]
        if None in ids:
            raise InputError(f"the tokenizer of {source.name} has no tokens 'yes' and 'no' to score by")
        return [transformer, LogitScore(*ids)], {}

    # -- the scores --------------------------------------------------------------------------------------------------

    @property
    def num_labels(self) -> int:
        """Scores of an input, as the last module that makes scores tells."""
        for module in reversed(list(self)):
            if isinstance(module, Dense) and module.module_output_name == "scores":
                return module.out_features
            if isinstance(module, LogitScore):
                return 1
            if isinstance(module, Transformer):
                return module.config.num_labels
        return 1

    @property
    def model(self) -> Any:
        """The transformers model, or None."""
        return self.transformers_model

    def get_default_activation_fn(self) -> nn.Module:
        """Return the activation that the transformers config names, else a sigmoid for one label, none for more."""
        config = self.config
        newer = getattr(config, "sentence_transformers", None)
        path = newer.get("activation_fn") if isinstance(newer, dict) else None
        if path is None and getattr(config, _OLDEST_KEY, None) is not None:
            path = getattr(config, _OLDEST_KEY)
            delattr(config, _OLDEST_KEY)
        return self._named(path, "config.json") or self._usual_activation()

    def _usual_activation(self) -> nn.Module:
        return nn.Sigmoid() if self.num_labels == 1 else nn.Identity()

    def _named(self, path: Any, origin: str = CONFIG_FILE) -> nn.Module | None:
        if path is None:
            return None
        otherwise = self._usual_activation()
        return _activation.from_path(path, origin, self.trust_remote_code, otherwise, key="activation_fn")

    def set_keep_in_fp32_modules(self, module_names: Sequence[str]) -> None:
        """Choose the linear layers that compute in float32, by their paths; an empty list chooses none.

        Raises:
            InputError: If one is not a plain ``nn.Linear``, or the model does not run on torch.
            MissingMethodError: If a path leads nowhere.
        """
        if module_names and self.backend != "torch":
            raise InputError(f"keep_in_fp32_modules needs backend='torch', this model has {self.backend!r}")
        keep_in_float32(self, module_names, before=self._in_float32)
        self._in_float32 = list(module_names)

    # -- predicting --------------------------------------------------------------------------------------------------

    @older_predict_arguments
    def predict(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | torch.device | list[str | torch.device] | None = None,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Score one pair or a batch of pairs, in the order given.

        Args:
            inputs: A pair ``(query, document)``, or a list, tuple, array or dataset column of pairs. A list whose first
                item is no list or tuple is one pair. A model of other modalities takes what it supports.
            prompt_name: Name of the model's prompt to put before the first text of each pair.
            prompt: The prompt itself; wins over the name, and ``""`` switches prompts off.
            batch_size: Bounds memory: at most ``batch_size * max_seq_length`` tokens run together.
            show_progress_bar: None shows a bar only if this library's logger is at INFO or DEBUG.
            activation_fn: Applied to the scores in this call, instead of the model's own.
            apply_softmax: Turn the scores of several labels into shares that add up to 1, after the activation.
            convert_to_numpy: Return an array; if neither this nor ``convert_to_tensor``, a list of tensors.
            convert_to_tensor: Return a tensor; wins over ``convert_to_numpy``.
            device: Move the model there first, for good. A list of devices predicts with a process on each, started
                for this call; the model then stays on the CPU.
            pool: Worker processes from :meth:`start_multi_process_pool`; wins over ``device``.
            chunk_size: Most pairs handed to a worker at a time; None goes by the measured speed.
            **kwargs: What the model's modules take, and ``processing_kwargs``.

        Returns:
            Float32 ``[pairs]`` for one label, ``[pairs, labels]`` for more; for one pair without the first axis.

        Raises:
            InputError: If an argument or an input is unusable, or a score is not a number; the message names it.
        """
        options = _cross_predict.Options.of(
            self,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            activation_fn=activation_fn,
            apply_softmax=apply_softmax,
            convert_to_numpy=convert_to_numpy,
            convert_to_tensor=convert_to_tensor,
            device=device,
            pool=pool,
            chunk_size=chunk_size,
            **kwargs,
        )
        return _encoding.encode(self, strings_as_lists(inputs), options)

    @older_rank_arguments
    def rank(
        self,
        query: Any,
        documents: Sequence[Any],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
        device: str | torch.device | list[str | torch.device] | None = None,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
    ) -> list[dict[str, Any]]:
        """Sort documents by how well they answer a query, the best first; equal ones keep their order.

        Args:
            query: The query.
            documents: The documents.
            top_k: How many to return; None returns all.
            return_documents: Whether each result holds its document too.
            prompt_name: As for :meth:`predict`, like all that follow.
            prompt: The prompt itself.
            batch_size: Bounds memory.
            show_progress_bar: Whether to show a bar.
            activation_fn: Applied to the scores.
            device: Where to run.
            pool: Worker processes.
            chunk_size: Most pairs handed to a worker at a time.

        Returns:
            A dictionary for each document: ``corpus_id``, its position; ``score``, a float; and ``text`` if asked for.

        Raises:
            InputError: If the model has several labels, or an input is unusable.
        """
        _ranking.check_ranks(self.num_labels)
        scores = self.predict(
            inputs=[[query, document] for document in documents],
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            activation_fn=activation_fn,
            device=device,
            pool=pool,
            chunk_size=chunk_size,
        )
        return _ranking.best_first(scores.tolist(), documents, top_k, return_documents)

    def rank_passages(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        *,
        size: int | None = None,
        overlap: int = 0,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Sort documents of any length by the best of their passages, where :meth:`rank` reads their beginning.

        A document that fits beside the query is one passage, exactly as it is. Its score is the largest of its
        passages': MaxP of Dai and Callan 2019, arXiv:1905.09217.

        Args:
            query: The query.
            documents: The documents.
            top_k: How many to return; None returns all.
            return_documents: Whether each result holds its document too.
            size: Most tokens of a passage; None is what the query leaves of ``max_seq_length``.
            overlap: Most tokens of a passage that the next one repeats.
            **options: Other arguments of :meth:`predict`.

        Returns:
            A dictionary for each document: ``corpus_id``, its position; ``score``, a float; ``text`` if asked for;
            ``start`` and ``stop``, where the best passage is in it.

        Raises:
            InputError: If the model has several labels, a document is no string, or the query leaves no room.
        """
        reader = _cross_predict.reader_of(self, options)
        return _ranking.rank_passages(reader, query, documents, top_k, return_documents, size, overlap)

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether :meth:`predict` takes ``inputs`` as one input rather than a batch."""
        return is_single_pair(inputs)

    # -- older names -------------------------------------------------------------------------------------------------

    @property
    def max_length(self) -> Any:
        """Deprecated; use ``max_seq_length``."""
        warnings.warn("CrossEncoder.max_length is deprecated; use max_seq_length", DeprecationWarning, stacklevel=2)
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int) -> None:
        warnings.warn("CrossEncoder.max_length is deprecated; use max_seq_length", DeprecationWarning, stacklevel=2)
        self.max_seq_length = value

    @property
    def default_activation_function(self) -> Any:
        """Deprecated; use ``activation_fn``."""
        message = "CrossEncoder.default_activation_function is deprecated; use activation_fn"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return self.activation_fn
