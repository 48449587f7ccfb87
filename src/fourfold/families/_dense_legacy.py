"""Members of the dense class from earlier generations. Each says what replaced it, and works."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fourfold import _fetch
from fourfold.engine.workers import WorkerPool
from fourfold.modules._base import Features


class DenseLegacy(nn.Module):
    """The part of the dense class that only older scripts use."""

    encode: Any
    truncate_embeddings: Any
    preprocess: Any
    _first_module: Any

    @contextmanager
    def truncate_sentence_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Do what ``truncate_embeddings`` does, under its older name."""
        # One frame more: contextlib runs this from a frame of its own.
        _warn("truncate_sentence_embeddings is deprecated; use truncate_embeddings", FutureWarning, stacklevel=4)
        with self.truncate_embeddings(truncate_dim):
            yield

    def encode_multi_process(
        self,
        sentences: list[str],
        pool: WorkerPool,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        chunk_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: str | None = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> NDArray[Any]:
        """Return what ``encode(sentences, pool=pool, ...)`` returns, ``[rows, width]``."""
        _warn("encode_multi_process is deprecated; use encode(..., pool=pool)", DeprecationWarning)
        return self.encode(
            sentences,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
        )

    def get_sentence_features(self, *features: Any) -> Features:
        """Return what the first module's method of this name returns."""
        _warn("get_sentence_features is deprecated; use preprocess", DeprecationWarning)
        return self._first_module().get_sentence_features(*features)

    @staticmethod
    def load(input_path: str) -> Any:
        """Build a model from its folder, as the constructor does."""
        from fourfold.families.dense import SentenceTransformer

        _warn("SentenceTransformer.load(path) is deprecated; use SentenceTransformer(path)", DeprecationWarning)
        return SentenceTransformer(input_path)

    def fit(
        self,
        train_objectives: Iterable[tuple[Any, nn.Module]],
        evaluator: Any = None,
        epochs: int = 1,
        steps_per_epoch: int | None = None,
        scheduler: str = "WarmupLinear",
        warmup_steps: int = 10000,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.AdamW,
        optimizer_params: dict[str, object] = {"lr": 2e-5},  # noqa: B006 - the contract's, and never changed
        weight_decay: float = 0.01,
        evaluation_steps: int = 0,
        output_path: str | None = None,
        save_best_model: bool = True,
        max_grad_norm: float = 1,
        use_amp: bool = False,
        callback: Callable[[float, int, int], None] | None = None,
        show_progress_bar: bool = True,
        checkpoint_path: str | None = None,
        checkpoint_save_steps: int = 500,
        checkpoint_save_total_limit: int = 0,
        resume_from_checkpoint: bool = False,
    ) -> None:
        """Train on loaders of examples: the interface of earlier generations, run by ``SentenceTransformerTrainer``.

        Each loader is read to its end before the first step. Batches of several loaders come in turn, until the first
        has no more. Their size, and which rows make one, are those of the last loader: no text twice for a
        ``NoDuplicatesDataLoader``, rows of one label together for a ``SentenceLabelDataset``, else at random.

        Args:
            train_objectives: Pairs of a ``DataLoader`` of ``InputExample`` and the loss that it is trained with.
                Labels are left out if all are 0.
            evaluator: Called with the model at each epoch's end and every ``evaluation_steps``; None evaluates nothing.
            epochs: Passes over the examples.
            steps_per_epoch: Steps after which a training of one epoch ends; without effect for more epochs.
            scheduler: ``ConstantLR``, ``WarmupConstant``, ``WarmupLinear``, ``WarmupCosine`` or
                ``WarmupCosineWithHardRestarts``, in any case.
            warmup_steps: Steps in which the learning rate grows from 0.
            optimizer_class: Class of the optimizer.
            optimizer_params: Its arguments.
            weight_decay: That of all parameters except biases and the weights of layers named ``LayerNorm``.
            evaluation_steps: Steps between evaluations; 0 evaluates at each epoch's end alone.
            output_path: Folder for the model, and in its folder ``eval`` for the evaluator's files; None writes
                neither. Without an evaluator the model is saved when training ends.
            save_best_model: Whether to save the model when the evaluator's primary metric is better than before.
            max_grad_norm: Longest gradient; a longer one is shortened to it.
            use_amp: Whether to compute in half precision.
            callback: Called with score, epoch and steps after each evaluation.
            show_progress_bar: Whether to show bars.
            checkpoint_path: Folder for checkpoints of the trainer; None writes none, and takes the first free of
                ``checkpoints/model``, ``checkpoints/model_1``, ... for what else the trainer writes.
            checkpoint_save_steps: Steps between checkpoints.
            checkpoint_save_total_limit: Checkpoints that are kept; 0 keeps all.
            resume_from_checkpoint: Whether to go on from the last checkpoint of ``checkpoint_path``; where there is
                none, training starts anew.

        Raises:
            InputError: If an argument or a loader is unusable; the message names it.
            MissingTrainingError: If a package of the extra ``train`` is missing.
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        # Trainings are a layer above models.
        _fetch("fourfold.training.legacy.dense_fit:fit")(self, **given)

    def old_fit(
        self,
        train_objectives: Iterable[tuple[Any, nn.Module]],
        evaluator: Any = None,
        epochs: int = 1,
        steps_per_epoch: int | None = None,
        scheduler: str = "WarmupLinear",
        warmup_steps: int = 10000,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.AdamW,
        optimizer_params: dict[str, object] = {"lr": 2e-5},  # noqa: B006 - the contract's, and never changed
        weight_decay: float = 0.01,
        evaluation_steps: int = 0,
        output_path: str | None = None,
        save_best_model: bool = True,
        max_grad_norm: float = 1,
        use_amp: bool = False,
        callback: Callable[[float, int, int], None] | None = None,
        show_progress_bar: bool = True,
        checkpoint_path: str | None = None,
        checkpoint_save_steps: int = 500,
        checkpoint_save_total_limit: int = 0,
    ) -> None:
        """Train on loaders of examples by a loop of its own, which needs no package of the extra ``train``.

        Arguments are those of :meth:`fit`, with these differences. Each step trains a batch of every loader, and a
        loader that has no more begins anew; :meth:`smart_batching_collate` makes its batches. Each loss has its own
        optimizer and scheduler. Checkpoints are model folders named after their step. ``best_score`` of the model is
        the best score, -9999999 before the first.

        Args:
            train_objectives: Pairs of a loader and its loss.
            evaluator: Called with the model, the epoch counted from 0, and the steps of the epoch, -1 at its end.
            epochs: How often ``steps_per_epoch`` steps are made.
            steps_per_epoch: None is as many as the smallest loader has batches.
            scheduler: One of :meth:`fit`'s names, or an object with ``step()``.
            warmup_steps: Steps in which the learning rate grows from 0.
            optimizer_class: Class of the optimizers.
            optimizer_params: Their arguments.
            weight_decay: That of all parameters except biases and the weights of layers named ``LayerNorm``.
            evaluation_steps: Steps between evaluations; 0 evaluates at each epoch's end alone.
            output_path: Folder for the model and the evaluator's files.
            save_best_model: Whether to save the model when its score is better than before.
            max_grad_norm: Longest gradient.
            use_amp: Whether to compute in half precision.
            callback: Called with what the evaluator returned, epoch and steps after each evaluation.
            show_progress_bar: Whether to show bars.
            checkpoint_path: Folder for checkpoints; None writes none.
            checkpoint_save_steps: Steps between checkpoints.
            checkpoint_save_total_limit: Checkpoints that are kept; 0 keeps all.

        Raises:
            InputError: If an argument or a loader is unusable; the message names it.
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        # Trainings are a layer above models.
        _fetch("fourfold.training.legacy.dense_fit:old_fit")(self, **given)

    def smart_batching_collate(self, batch: Sequence[Any]) -> tuple[list[Features], Tensor]:
        """Return the features of each column of texts, and the labels, of a batch of examples.

        Args:
            batch: Objects with ``texts``, as many in each, and ``label``: a number, a list of numbers or an array.
        """
        columns = zip(*(example.texts for example in batch), strict=True)
        labels = [example.label for example in batch]
        if labels and isinstance(labels[0], np.ndarray):
            return [self.preprocess(list(column)) for column in columns], torch.from_numpy(np.stack(labels))
        return [self.preprocess(list(column)) for column in columns], torch.tensor(labels)


def _warn(message: str, category: type[Warning], stacklevel: int = 3) -> None:
    warnings.warn(message, category, stacklevel=stacklevel)
