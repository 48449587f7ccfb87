"""Whether a sparse encoder finds for each query the documents that belong to it, and at what cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from fourfold.evaluation._retrieval import Score
from fourfold.evaluation._sparsity import SparseEvaluation
from fourfold.evaluation.information_retrieval_evaluator import InformationRetrievalEvaluator
from fourfold.ops.similarity import SimilarityFunction, as_tensor
from fourfold.ops.vectors import compute_count_vector


class SparseInformationRetrievalEvaluator(SparseEvaluation, InformationRetrievalEvaluator):
    """Search a corpus of sparse vectors for each query, and measure where the relevant documents rank.

    As :class:`~fourfold.evaluation.information_retrieval_evaluator.InformationRetrievalEvaluator`, with the further
    numbers ``query_active_dims``, ``query_sparsity_ratio``, ``corpus_active_dims``, ``corpus_sparsity_ratio`` and
    ``avg_flops``, the number of terms that a query and a document are expected to share.

    Args:
        queries: Texts by id. Those without relevant documents are left out.
        corpus: Texts by id; ids are of one type that can be sorted.
        relevant_docs: For the id of a query the ids of its relevant documents.
        corpus_chunk_size: Documents encoded at a time; it bounds memory.
        mrr_at_k: Every k of the mean reciprocal rank.
        ndcg_at_k: Every k of the normalised discounted cumulative gain, at least one.
        accuracy_at_k: Every k of the accuracy.
        precision_recall_at_k: Every k of precision and recall.
        map_at_k: Every k of the mean average precision.
        show_progress_bar: Whether encoding shows bars.
        batch_size: Texts that the model encodes at once.
        name: Name of the data, in front of every number.
        write_csv: Whether to add a row to ``Information-Retrieval_evaluation_<name>_results.csv``.
        max_active_dims: How many weights a vector keeps; None keeps all.
        score_functions: Functions by name, of sparse vectors of queries and of documents, giving scores
            ``[queries, docs]``. None means the model's own similarity.
        main_score_function: The function whose number is the primary one; None means the best one.
        query_prompt: Put before each query; None leaves that to the model.
        query_prompt_name: Name of the model's prompt for queries.
        corpus_prompt: Put before each document.
        corpus_prompt_name: Name of the model's prompt for documents.
        write_predictions: Whether to write the documents found.

    Attributes:
        count_vectors: For ``query`` and ``corpus``, in how many vectors each term was, int64 ``[terms]``.
        count_lengths: For both, how many vectors there were of each call.

    Raises:
        InputError: As the dense evaluator does.

    >>> from fourfold.testing import tiny
    >>> queries, corpus = {"q": "the world"}, {"a": "a query of text", "b": "the world"}
    >>> evaluator = SparseInformationRetrievalEvaluator(queries, corpus, {"q": {"b"}}, max_active_dims=8)
    >>> numbers = evaluator(tiny("sparse"))
    >>> numbers["dot_recall@3"], numbers["query_active_dims"]
    (1.0, 8.0)
    """

    sparsity_groups = ("query", "corpus")

    def __init__(
        self,
        queries: Mapping[Any, Any],
        corpus: Mapping[Any, Any],
        relevant_docs: Mapping[Any, Collection[Any]],
        corpus_chunk_size: int = 50000,
        mrr_at_k: Sequence[int] = (10,),
        ndcg_at_k: Sequence[int] = (10,),
        accuracy_at_k: Sequence[int] = (1, 3, 5, 10),
        precision_recall_at_k: Sequence[int] = (1, 3, 5, 10),
        map_at_k: Sequence[int] = (100,),
        show_progress_bar: bool = False,
        batch_size: int = 32,
        name: str = "",
        write_csv: bool = True,
        max_active_dims: int | None = None,
        score_functions: Mapping[str, Score] | None = None,
        main_score_function: str | SimilarityFunction | None = None,
        query_prompt: str | None = None,
        query_prompt_name: str | None = None,
        corpus_prompt: str | None = None,
        corpus_prompt_name: str | None = None,
        write_predictions: bool = False,
    ) -> None:
        self.max_active_dims = max_active_dims
        super().__init__(
            queries, corpus, relevant_docs, corpus_chunk_size, mrr_at_k, ndcg_at_k, accuracy_at_k,
            precision_recall_at_k, map_at_k, show_progress_bar, batch_size, name, write_csv, None, score_functions,
            main_score_function, query_prompt, query_prompt_name, corpus_prompt, corpus_prompt_name, write_predictions,
        )  # fmt: skip
        self._forget()

    def _documents(self, model: Any, chunk: slice, corpus_embeddings: Any, queries: Any) -> Any:
        documents = super()._documents(model, chunk, corpus_embeddings, queries)
        if corpus_embeddings is not None:
            documents = as_tensor(documents).cpu()
            self._note(model, documents, "corpus")
        return documents

    def _group(self, encode_fn_name: str | None) -> str:
        return "query" if encode_fn_name == "query" else "corpus"

    def _weight(self, embeddings: Any) -> float:
        return float(len(embeddings))

    def _forget(self) -> None:
        super()._forget()
        self.count_vectors: dict[str, Tensor] = {}
        self.count_lengths: dict[str, list[int]] = {group: [] for group in self.sparsity_groups}

    def _note(self, model: Any, embeddings: Any, group: str) -> None:
        super()._note(model, embeddings, group)
        counts = compute_count_vector(embeddings).long().cpu()
        self.count_vectors[group] = counts + self.count_vectors.get(group, 0)
        self.count_lengths[group].append(len(embeddings))

    def _extra_headers(self) -> list[str]:
        return [*super()._extra_headers(), "avg_flops"]

    def _extra_metrics(self) -> dict[str, float]:
        return {**super()._extra_metrics(), "avg_flops": expected_overlap(self.count_vectors, self.count_lengths)}


def expected_overlap(counts: Mapping[str, Tensor], lengths: Mapping[str, Sequence[int]]) -> float:
    """Return how many terms a query and a document are expected to share; 0 if there are none of either.

    Args:
        counts: For ``query`` and ``corpus``, in how many vectors each term is, ``[terms]``.
        lengths: For both, how many vectors there are of each call.
    """
    totals = {group: sum(lengths[group]) for group in ("query", "corpus")}
    if not all(totals.values()):
        return 0.0
    query, corpus = (counts[group].double() / totals[group] for group in ("query", "corpus"))
    return float(query @ corpus)
