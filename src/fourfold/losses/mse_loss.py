"""Learn a teacher's vectors by the mean squared error, such as those of translations of the same text."""

from __future__ import annotations

from typing import Any, ClassVar

from fourfold.losses._citations import entry
from fourfold.losses.embed_distill_loss import EmbedDistillLoss


class MSELoss(EmbedDistillLoss):
    """:class:`EmbedDistillLoss` by the mean squared error.

    Args:
        model: The encoder.
        projection_dim: Width of the teacher's vectors where it is another.
    """

    citation = entry(
        "inproceedings", "reimers-2020-multilingual-sentence-bert",
        title="Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation",
        author="Reimers, Nils and Gurevych, Iryna",
        booktitle="Proceedings of the 2020 Conference on Empirical Methods in Natural Language Processing", year=2020,
        publisher="Association for Computational Linguistics", url="https://arxiv.org/abs/2004.09813",
    )  # fmt: skip
    config_keys: ClassVar[tuple[str, ...]] = ("projection_dim",)

    def __init__(self, model: Any, projection_dim: int | None = None) -> None:
        super().__init__(model, "mse", projection_dim)
