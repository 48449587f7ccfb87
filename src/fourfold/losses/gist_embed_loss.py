"""In-batch negatives that a guide model has looked at first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from torch import Tensor, nn

from fourfold.losses._base import Loss, Takes, check_columns
from fourfold.losses._citations import article
from fourfold.losses._columns import embed_columns
from fourfold.losses._guided import Guide, Guided, MarginStrategy, cosines
from fourfold.modules._base import Features


class GISTEmbedLoss(Loss):
    """Tell each query's own document from those of the batch that a guide holds to be less like it.

    Columns: query and positive, or query, positive and negative; labels are not read.

    Args:
        model: The encoder.
        guide: A model that tells what is no negative; it is not trained.
        temperature: Divides the cosines.
        margin_strategy: ``absolute`` subtracts the margin from the positive's similarity, ``relative`` a share.
        margin: By how much less than the positive a negative must be like the query, in the guide's eyes.
        contrast_anchors: Whether other queries are negatives of a query.
        contrast_positives: Whether other positives are negatives of a positive.
        gather_across_devices: Whether the rows of other processes are negatives too.

    Raises:
        InputError: If a model has no tokenizer of transformers, an argument is unusable, or a batch has other columns.
    """

    takes: ClassVar[Takes | None] = Takes((2, 3), "query, positive, negative")
    config_keys: ClassVar[tuple[str, ...]] = (
        "temperature", "margin_strategy", "margin", "contrast_anchors", "contrast_positives", "gather_across_devices",
    )  # fmt: skip
    citation: str | None = article(
        "solatorio2024gistembed", "2402.16829", 2024,
        "GISTEmbed: Guided In-sample Selection of Training Negatives for Text Embedding Fine-tuning",
        "Aivin V. Solatorio", "cs.LG",
    )  # fmt: skip

    def __init__(
        self,
        model: Any,
        guide: Any,
        temperature: float = 0.01,
        margin_strategy: MarginStrategy = "absolute",
        margin: float = 0.0,
        contrast_anchors: bool = True,
        contrast_positives: bool = True,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model)
        self.guide = guide
        self.temperature = temperature
        self.similarity_fct = nn.CosineSimilarity(dim=-1)
        self.margin_strategy: MarginStrategy = margin_strategy
        self.margin = margin
        self.contrast_anchors = contrast_anchors
        self.contrast_positives = contrast_positives
        self.gather_across_devices = gather_across_devices
        self._runs_guide = Guide(model, guide)
        self.guided()  # which checks the arguments

    @property
    def must_retokenize(self) -> bool:
        """Whether the guide reads texts made of the model's tokens, rather than these."""
        return self._runs_guide.must_retokenize

    def guided(self) -> Guided:
        """Return how the columns are compared."""
        return Guided(
            self.temperature, self.margin_strategy, self.margin, self.contrast_anchors, self.contrast_positives,
            self.gather_across_devices,
        )  # fmt: skip

    @staticmethod
    def sim_matrix(embed1: Tensor, embed2: Tensor) -> Tensor:
        """Return the cosines of all rows with all others."""
        return cosines(embed1, embed2)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Tensor:
        """Return the loss of a batch."""
        columns = list(sentence_features)
        check_columns(self, columns)
        theirs = [self._runs_guide(self.guide, features) for features in columns]
        ours = embed_columns(self.model, columns)
        guided = self.guided()
        return guided.loss(guided.columns(ours), guided.columns(theirs))

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        return {"guide": self.guide, **super().get_config_dict()}
