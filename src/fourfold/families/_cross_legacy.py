"""Members of the cross class from earlier generations: training on a loader of examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BatchEncoding

from fourfold import _fetch


class CrossLegacy:
    """The part of the cross class that only older scripts use."""

    preprocess: Any
    num_labels: Any
    device: Any

    def fit(
        self,
        train_dataloader: Any,
        evaluator: Any = None,
        epochs: int = 1,
        loss_fct: Callable[[Tensor, Tensor], Tensor] | None = None,
        activation_fct: nn.Module = nn.Identity(),  # noqa: B008 - the contract's; it holds nothing
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
    ) -> None:
        """Train on a loader of examples: the interface of earlier generations, run by ``CrossEncoderTrainer``.

        The loader is read to its end before the first step. The size of batches, and which rows make one, are the
        loader's: no text twice for a ``NoDuplicatesDataLoader``, else at random.

        A model is saved only when an evaluation of ``evaluation_steps`` finds it better than before; that at an
        epoch's end writes the evaluator's files and nothing else.

        Args:
            train_dataloader: A ``DataLoader`` of ``InputExample`` with two texts.
            evaluator: Called with the model at each epoch's end and every ``evaluation_steps``; None evaluates nothing.
            epochs: Passes over the examples.
            loss_fct: Makes a loss of scores and labels; None is the binary cross entropy for one label, else the cross
                entropy.
            activation_fct: Applied to the scores before.
            scheduler: ``ConstantLR``, ``WarmupConstant``, ``WarmupLinear``, ``WarmupCosine`` or
                ``WarmupCosineWithHardRestarts``, in any case.
            warmup_steps: Steps in which the learning rate grows from 0.
            optimizer_class: Class of the optimizer.
            optimizer_params: Its arguments.
            weight_decay: That of all parameters except biases and the weights of layers named ``LayerNorm``.
            evaluation_steps: Steps between evaluations; 0 evaluates at each epoch's end alone.
            output_path: Folder for the model, and in its folder ``eval`` for the evaluator's files; None writes
                neither.
            save_best_model: Whether to save the model when the evaluator's primary metric is better than before.
            max_grad_norm: Longest gradient; a longer one is shortened to it.
            use_amp: Whether to compute in half precision.
            callback: Called with score, epoch and steps after each evaluation of ``evaluation_steps``.
            show_progress_bar: Whether to show bars.

        Raises:
            InputError: If an argument or the loader is unusable; the message names it.
            MissingTrainingError: If a package of the extra ``train`` is missing.
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        # Trainings are a layer above models.
        _fetch("fourfold.training.legacy.cross_fit:fit")(self, **given)

    def old_fit(
        self,
        train_dataloader: Any,
        evaluator: Any = None,
        epochs: int = 1,
        loss_fct: Callable[[Tensor, Tensor], Tensor] | None = None,
        activation_fct: nn.Module = nn.Identity(),  # noqa: B008 - the contract's; it holds nothing
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
    ) -> None:
        """Train on a loader of examples by a loop of its own, which needs no package of the extra ``train``.

        Arguments are those of :meth:`fit`, with these differences. :meth:`smart_batching_collate` makes batches. Every
        evaluation reports, and saves the model when it is better than before. ``best_score`` of the model is the best
        score, -9999999 before the first.

        Args:
            train_dataloader: A ``DataLoader`` of ``InputExample`` with two texts.
            evaluator: Called with the model, the epoch counted from 0, and the steps of the epoch, -1 at its end.
            epochs: Passes over the examples.
            loss_fct: Makes a loss of scores and labels.
            activation_fct: Applied to the scores before.
            scheduler: One of :meth:`fit`'s names, or an object with ``step()``.
            warmup_steps: Steps in which the learning rate grows from 0.
            optimizer_class: Class of the optimizer.
            optimizer_params: Its arguments.
            weight_decay: That of all parameters except biases and the weights of layers named ``LayerNorm``.
            evaluation_steps: Steps between evaluations; 0 evaluates at each epoch's end alone.
            output_path: Folder for the model and the evaluator's files.
            save_best_model: Whether to save the model when its score is better than before.
            max_grad_norm: Longest gradient.
            use_amp: Whether to compute in half precision.
            callback: Called with what the evaluator returned, epoch and steps after each evaluation.
            show_progress_bar: Whether to show bars.

        Raises:
            InputError: If an argument is unusable; the message names it.
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        # Trainings are a layer above models.
        _fetch("fourfold.training.legacy.cross_fit:old_fit")(self, **given)

    def smart_batching_collate(self, batch: Sequence[Any]) -> tuple[BatchEncoding, Tensor]:
        """Return the features of a batch of examples and their labels, on the model's device.

        Args:
            batch: Objects with ``texts``, which are stripped, and ``label``: a number, of a class if there are several.
        """
        features = self.smart_batching_collate_text_only([example.texts for example in batch])
        dtype = torch.float if self.num_labels == 1 else torch.long
        return features, torch.tensor([example.label for example in batch], dtype=dtype, device=self.device)

    def smart_batching_collate_text_only(self, batch: Sequence[Sequence[str]]) -> BatchEncoding:
        """Return the features of a batch of pairs of texts, which are stripped, on the model's device."""
        features = self.preprocess([[text.strip() for text in texts] for texts in batch])
        tensors = {name: value for name, value in features.items() if isinstance(value, Tensor)}
        return BatchEncoding(tensors).to(self.device)
