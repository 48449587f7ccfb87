"""In-batch negatives: the documents of all other rows of a batch are what a query is not answered by."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from torch import Tensor

from fourfold.losses._base import Loss, Takes, check_columns
from fourfold.losses._citations import article
from fourfold.losses._in_batch import Candidates, HardnessMode, InBatch, PartitionMode
from fourfold.ops.similarity import cos_sim

logger = logging.getLogger(__name__)

_GTE = article(
    "li2023generaltextembeddingsmultistage", "2308.03281", 2023,
    "Towards General Text Embeddings with Multi-stage Contrastive Learning",
    "Zehan Li and Xin Zhang and Yanzhao Zhang and Dingkun Long and Pengjun Xie and Meishan Zhang", "cs.CL",
)  # fmt: skip
_JINA = article(
    "günther2024jinaembeddings28192token", "2310.19923", 2024,
    "Jina Embeddings 2: 8192-Token General-Purpose Text Embeddings for Long Documents",
    "Michael Günther and Jackmin Ong and Isabelle Mohr and Alaeddine Abdessalem and Tanguy Abel and Mohammad Kalim "
    "Akram and Susana Guzman and Georgios Mastrapas and Saba Sturua and Bo Wang and Maximilian Werk and Nan Wang and "
    "Han Xiao", "cs.CL",
)  # fmt: skip
_INFO_NCE = article(
    "oord2019representationlearningcontrastivepredictive", "1807.03748", 2019,
    "Representation Learning with Contrastive Predictive Coding",
    "Aaron van den Oord and Yazhe Li and Oriol Vinyals", "cs.LG",
)  # fmt: skip


class MultipleNegativesRankingLoss(Loss):
    """Tell each query's own document from all others of the batch: InfoNCE.

    Columns: query, positive, and any number of columns of negatives. Labels are not read. With ``directions`` of
    ``("query_to_doc", "doc_to_query")`` and ``partition_mode="per_direction"`` it is the symmetric loss; with all four
    directions and ``"joint"`` it is that of GTE.

    Args:
        model: The encoder.
        scale: Factor of the similarities, the inverse of the temperature.
        similarity_fct: Of all rows with all rows.
        gather_across_devices: Whether the documents of other processes are negatives too.
        directions: What is compared with what: ``query_to_doc`` always, and any of ``query_to_query``,
            ``doc_to_query``, ``doc_to_doc``.
        partition_mode: ``joint`` puts all directions into one denominator, ``per_direction`` averages over them.
        hardness_mode: Which negatives weigh more the more they are like the query: ``in_batch_negatives``,
            ``hard_negatives`` (those of the row's own columns), ``all_negatives``, or None.
        hardness_strength: How much more; 0 is not at all.

    Raises:
        InputError: If an argument is unusable, or a batch has fewer than two columns.
    """

    takes: ClassVar[Takes | None] = Takes(range(2, 3), "query, positive, negatives")
    config_keys: ClassVar[tuple[str, ...]] = (
        "scale", "similarity_fct", "gather_across_devices", "directions", "partition_mode", "hardness_mode",
        "hardness_strength",
    )  # fmt: skip

    def __init__(
        self,
        model: Any,
        scale: float = 20.0,
        similarity_fct: Callable[[Any, Any], Tensor] = cos_sim,
        gather_across_devices: bool = False,
        directions: Iterable[str] = ("query_to_doc",),
        partition_mode: PartitionMode = "joint",
        hardness_mode: HardnessMode | None = None,
        hardness_strength: float = 0.0,
    ) -> None:
        super().__init__(model)
        self.scale = scale
        self.similarity_fct = similarity_fct
        self.gather_across_devices = gather_across_devices
        self.directions = tuple(directions)
        self.partition_mode: PartitionMode = partition_mode
        self.hardness_mode: HardnessMode | None = hardness_mode
        self.hardness_strength = hardness_strength
        self._in_batch()  # which checks the arguments
        if hardness_mode is not None and hardness_strength == 0:
            logger.warning("hardness_mode=%r has no effect while hardness_strength is 0", hardness_mode)

    @property
    def temperature(self) -> float:
        """The inverse of the scale."""
        return 1.0 / self.scale

    def _in_batch(self) -> InBatch:
        return InBatch(
            self.similarity_fct, self.scale, self.directions, self.partition_mode, self.hardness_mode,
            self.hardness_strength,
        )  # fmt: skip

    def candidates(self, embeddings: Sequence[Tensor]) -> Candidates:
        """Return what the vectors of a batch are compared with."""
        check_columns(self, embeddings)
        return Candidates.of(embeddings, gather=self.gather_across_devices)

    def loss_of_rows(self, candidates: Candidates, rows: slice) -> Tensor:
        """Return the mean loss of some rows of a batch."""
        return self._in_batch().loss(candidates, rows)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """Return the loss of queries, positives and negatives, each ``[rows, width]``."""
        return self.loss_of_rows(self.candidates(embeddings), slice(None))

    @property
    def citation(self) -> str:
        """BibTeX of the method that the directions make it."""
        if set(self.directions) == {"query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"}:
            return _GTE if self.partition_mode == "joint" else _INFO_NCE
        symmetric = set(self.directions) == {"query_to_doc", "doc_to_query"} and self.partition_mode == "per_direction"
        return _JINA if symmetric else _INFO_NCE
