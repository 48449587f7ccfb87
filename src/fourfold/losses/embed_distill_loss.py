"""Learn a teacher's vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from fourfold.errors import InputError
from fourfold.losses._base import Loss, Takes
from fourfold.losses._citations import entry
from fourfold.losses._columns import embed_columns
from fourfold.modules._base import Features

DistanceMetric = Literal["mse", "l2", "cosine"]


def _distance(metric: str, student: Tensor, teacher: Tensor) -> Tensor:
    if metric == "mse":
        return functional.mse_loss(student, teacher)
    if metric == "l2":
        return torch.linalg.vector_norm(student - teacher, dim=1).mean()
    return (1 - functional.cosine_similarity(student, teacher)).mean()


class EmbedDistillLoss(Loss):
    """Bring the vectors of each column near to a teacher's.

    Columns: any number; labels: the teacher's vectors, ``[rows, width]`` for all columns or ``[rows, columns, width]``.

    Args:
        model: The encoder.
        distance_metric: ``cosine``, ``l2`` or ``mse``.
        projection_dim: Width of the teacher's vectors where it is another: a linear layer, ``projection``, is trained
            to lead there.

    Raises:
        InputError: If the metric is unknown, or labels are missing or have another shape.
    """

    takes: ClassVar[Takes | None] = Takes(range(1, 2), "texts", "the teacher's vectors")
    citation = entry(
        "misc", "kim2023embeddistill",
        title="EmbedDistill: A Geometric Knowledge Distillation for Information Retrieval",
        author="Kim, Seungyeon and Rawat, Ankit Singh and Zaheer, Manzil and Jayasumana, Sadeep and Sadhanala, "
        "Veeranjaneyulu and Jitkrittum, Wittawat and Menon, Aditya Krishna and Fergus, Rob and Kumar, Sanjiv",
        year=2023, eprint="2301.12005", archivePrefix="arXiv", primaryClass="cs.IR",
    )  # fmt: skip
    config_keys: ClassVar[tuple[str, ...]] = ("distance_metric", "projection_dim")

    def __init__(
        self, model: Any, distance_metric: DistanceMetric = "cosine", projection_dim: int | None = None
    ) -> None:
        super().__init__(model)
        if distance_metric not in ("mse", "l2", "cosine"):
            raise InputError(f"distance_metric must be 'cosine', 'l2' or 'mse', got {distance_metric!r}")
        self.distance_metric: DistanceMetric = distance_metric
        self.projection_dim = projection_dim
        self.projection: nn.Linear | None = None
        if projection_dim is not None:
            self.projection = nn.Linear(model.get_embedding_dimension(), projection_dim, device=model.device)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """Return the loss of a batch with the teacher's vectors as labels."""
        embeddings = embed_columns(self.model, list(sentence_features))
        return self.compute_loss_from_embeddings(embeddings, self._by_column(labels, len(embeddings)))

    def _by_column(self, labels: Tensor | None, columns: int) -> list[Tensor]:
        if labels is None:
            raise InputError(f"{type(self).__name__} needs the teacher's vectors as labels")
        if labels.ndim == 2:
            return [labels] * columns
        if labels.ndim != 3:
            raise InputError(
                f"{type(self).__name__} needs labels [rows, width] or [rows, columns, width], got {tuple(labels.shape)}"
            )
        if labels.shape[1] != columns:
            raise InputError(
                f"{type(self).__name__} has {columns} columns, the labels have vectors for {labels.shape[1]}"
            )
        return list(labels.unbind(dim=1))

    def compute_loss_from_embeddings(  # type: ignore[override]
        self, embeddings: list[Tensor], teacher_embeddings: Sequence[Tensor]
    ) -> Tensor:
        """Return the mean over the columns of the distances to the teacher's vectors, one tensor a column."""
        losses = []
        for student, teacher in zip(embeddings, teacher_embeddings, strict=True):
            projected = student if self.projection is None else self.projection(student)
            if projected.shape[-1] != teacher.shape[-1]:
                raise InputError(
                    f"{type(self).__name__}: the model's vectors have {projected.shape[-1]} numbers, the teacher's "
                    f"{teacher.shape[-1]}; projection_dim={teacher.shape[-1]} learns to lead from one to the other"
                )
            losses.append(_distance(self.distance_metric, projected, teacher.to(projected)))
        return torch.stack(losses).mean()

    def save_projection(self, path: str) -> None:
        """Write the projection's weights as safetensors.

        Raises:
            InputError: If there is none.
        """
        if self.projection is None:
            raise InputError("there is no projection to save; give projection_dim")
        save_file({name: value.contiguous() for name, value in self.projection.state_dict().items()}, path)

    def load_projection(self, path: str) -> None:
        """Read the projection's weights; the layer is made if there is none.

        Raises:
            InputError: If the file's layer has another shape.
        """
        weights = load_file(path)
        shape = tuple(weights["weight"].shape)
        if self.projection is None:
            self.projection = nn.Linear(shape[1], shape[0], device=self.model.device)
            self.projection_dim = shape[0]
        if tuple(self.projection.weight.shape) != shape:
            raise InputError(f"{path}: the projection is {shape}, this one {tuple(self.projection.weight.shape)}")
        self.projection.load_state_dict(weights)
