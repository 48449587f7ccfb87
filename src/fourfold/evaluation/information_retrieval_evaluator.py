"""Whether a model finds for each query the documents that belong to it."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import trange

from fourfold.errors import InputError, check_positive
from fourfold.evaluation._base import EmbeddingEvaluator, underscored
from fourfold.evaluation._retrieval import BestHits, Score, ranks_of, rows_of, score_blocks
from fourfold.metrics import ranking
from fourfold.ops.similarity import SimilarityFunction, similarity_name
from fourfold.store.files import write_bytes

logger = logging.getLogger(__name__)

Scores = dict[str, dict[int, float]]
"""Numbers by name, such as ``ndcg@k``, and k."""


class InformationRetrievalEvaluator(EmbeddingEvaluator):
    """Search a corpus for each query, and measure where the relevant documents rank.

    Documents rank by score, those of equal score by their ids. For each score function f and each k the numbers are
    ``f_accuracy@k`` (share of queries with a relevant document among the first k), ``f_precision@k``, ``f_recall@k``,
    ``f_ndcg@k``, ``f_mrr@k`` and ``f_map@k``, from 0 to 1, means over the queries. The primary one is
    ``f_ndcg@k`` at the largest k.

    Queries are encoded once and the corpus a chunk at a time, of which only the best documents are kept; chunks change
    no result.

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
        truncate_dim: How many leading numbers of each vector are used; None is all.
        score_functions: Functions by name, each of vectors of queries and of documents, giving scores
            ``[queries, docs]``, larger for better; they are called for some of either at a time. None means the model's
            own similarity.
        main_score_function: The function whose number is the primary one; None means the best one.
        query_prompt: Put before each query; None leaves that to the model.
        query_prompt_name: Name of the model's prompt for queries.
        corpus_prompt: Put before each document.
        corpus_prompt_name: Name of the model's prompt for documents.
        write_predictions: Whether to write the documents found, a line of JSON a query, to
            ``Information-Retrieval_evaluation_<name>_predictions_<f>.jsonl``.

    Raises:
        InputError: If a size or a k is below 1, or ``main_score_function`` is unknown; when called, if no query has a
            relevant document, or precomputed vectors are not one a document.

    >>> from fourfold.testing import tiny
    >>> queries, corpus = {"q": "the world"}, {"a": "a query of text", "b": "the world"}
    >>> evaluator = InformationRetrievalEvaluator(queries, corpus, {"q": {"b"}}, name="mine")
    >>> numbers = evaluator(tiny("dense"))
    >>> evaluator.primary_metric, numbers["mine_cosine_ndcg@10"], numbers["mine_cosine_recall@1"]
    ('mine_cosine_ndcg@10', 1.0, 1.0)
    """

    # The older library writes these tables so.
    _bare_csv = True

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
        truncate_dim: int | None = None,
        score_functions: Mapping[str, Score] | None = None,
        main_score_function: str | SimilarityFunction | None = None,
        query_prompt: str | None = None,
        query_prompt_name: str | None = None,
        corpus_prompt: str | None = None,
        corpus_prompt_name: str | None = None,
        write_predictions: bool = False,
    ) -> None:
        super().__init__(
            name=name, batch_size=batch_size, show_progress_bar=show_progress_bar, write_csv=write_csv,
            truncate_dim=truncate_dim,
        )  # fmt: skip
        check_positive(corpus_chunk_size=corpus_chunk_size)
        self.queries_ids = [query for query in queries if relevant_docs.get(query)]
        self.queries = [queries[query] for query in self.queries_ids]
        self.corpus_ids = list(corpus)
        self.corpus = list(corpus.values())
        self.relevant_docs = relevant_docs
        self.corpus_chunk_size = corpus_chunk_size
        self.mrr_at_k = list(mrr_at_k)
        self.ndcg_at_k = list(ndcg_at_k)
        self.accuracy_at_k = list(accuracy_at_k)
        self.precision_recall_at_k = list(precision_recall_at_k)
        self.map_at_k = list(map_at_k)
        for argument in ("mrr_at_k", "ndcg_at_k", "accuracy_at_k", "precision_recall_at_k", "map_at_k"):
            check_positive(**{argument: min(getattr(self, argument), default=1)})
        self.query_prompt = query_prompt
        self.query_prompt_name = query_prompt_name
        self.corpus_prompt = corpus_prompt
        self.corpus_prompt_name = corpus_prompt_name
        self.score_functions = score_functions
        main = None if main_score_function is None else SimilarityFunction(similarity_name(main_score_function))
        self.main_score_function = main
        self.write_predictions = write_predictions
        self.csv_file = f"Information-Retrieval_evaluation{underscored(name)}_results.csv"
        self.predictions_file = f"Information-Retrieval_evaluation{underscored(name)}_predictions.jsonl"
        self.score_function_names: list[str] = []
        self._use(sorted(score_functions or []))

    def __call__(
        self,
        model: Any,
        output_path: str | None = None,
        epoch: int = -1,
        steps: int = -1,
        corpus_model: Any = None,
        corpus_embeddings: Any = None,
    ) -> dict[str, float]:
        """Measure a model.

        Args:
            model: The model.
            output_path: Folder for the table of results and the documents found; None writes none.
            epoch: Where training stands; -1 is outside of training.
            steps: Steps of the epoch so far; -1 is its end.
            corpus_model: Another model that encodes the documents.
            corpus_embeddings: The documents' vectors ``[docs, width]`` in the order of the corpus, instead of encoding
                them; they are read a chunk at a time.
        """
        self._announce(epoch, steps)
        scores = self.compute_all_metrics(
            model, corpus_model=corpus_model, corpus_embeddings=corpus_embeddings, output_path=output_path
        )
        if self.primary_metric is None:
            self.primary_metric = self._best_function(scores)
        metrics = {
            f"{name}_{kind.removesuffix('k')}{k}": value
            for name, kinds in scores.items()
            for kind, values in kinds.items()
            for k, value in values.items()
        }
        cells = [scores[name][kind][k] for name in self.score_function_names for kind, k in self._cells()]
        return self._finish(model, metrics, cells=cells, output_path=output_path, epoch=epoch, steps=steps)

    @torch.no_grad()
    def compute_all_metrics(
        self, model: Any, corpus_model: Any = None, corpus_embeddings: Any = None, output_path: str | None = None
    ) -> dict[str, Scores]:
        """Search and return every number: by name of the score function, of the number, and by k.

        Args:
            model: The model.
            corpus_model: Another model that encodes the documents.
            corpus_embeddings: The documents' vectors ``[docs, width]``.
            output_path: Folder for the documents found, if they are to be written.
        """
        self._check(corpus_embeddings)
        functions = self._functions(model)
        ranks = ranks_of(self.corpus_ids)
        order = np.argsort(ranks).tolist()
        found = self._search(model, corpus_model or model, corpus_embeddings, functions, ranks)
        scores = {}
        for name in functions:
            best = found.pop(name)
            hits = [
                [{"corpus_id": self.corpus_ids[order[rank]], "score": score} for rank, score in best.of(query)]
                for query in range(len(self.queries))
            ]
            if output_path is not None and self.write_predictions:
                self._write_predictions(Path(output_path), name, hits)
            scores[name] = self.compute_metrics(hits)
        logger.info("%d queries, %d documents", len(self.queries), len(self.corpus))
        for name in self.score_function_names:
            logger.info("Scores by %s", name)
            self.output_scores(scores[name])
        return scores

    def compute_metrices(self, *args: Any, **kwargs: Any) -> dict[str, Scores]:
        """Do what :meth:`compute_all_metrics` does, under its older name."""
        return self.compute_all_metrics(*args, **kwargs)

    def compute_metrics(self, queries_result_list: Sequence[Sequence[Mapping[str, Any]]]) -> Scores:
        """Return every number of rankings, by name and k.

        Args:
            queries_result_list: For each of the queries ``{"corpus_id": id, "score": number}`` of the documents found,
                in any order.
        """
        ordered = [sorted(hits, key=lambda hit: (-hit["score"], hit["corpus_id"])) for hits in queries_result_list]
        ranked = [[hit["corpus_id"] for hit in hits] for hits in ordered]
        judged = ranking.judge(ranked, [self.relevant_docs[query] for query in self.queries_ids])
        return {
            "accuracy@k": {k: ranking.accuracy_at_k(judged, k) for k in self.accuracy_at_k},
            "precision@k": {k: ranking.precision_at_k(judged, k) for k in self.precision_recall_at_k},
            "recall@k": {k: ranking.recall_at_k(judged, k) for k in self.precision_recall_at_k},
            "ndcg@k": {k: ranking.ndcg_at_k(judged, k) for k in self.ndcg_at_k},
            "mrr@k": {k: ranking.mrr_at_k(judged, k) for k in self.mrr_at_k},
            "map@k": {k: ranking.map_at_k(judged, k) for k in self.map_at_k},
        }

    def output_scores(self, scores: Scores) -> None:
        """Write numbers to the log."""
        for kind, values in scores.items():
            logger.info("%s %s", kind, ", ".join(f"{k}: {value:.4f}" for k, value in values.items()))

    @staticmethod
    def compute_dcg_at_k(relevances: Sequence[float], k: int) -> float:
        """Return the discounted cumulative gain of the first k relevances."""
        return ranking.dcg_at_k(relevances, k)

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that a model card shows."""
        names = ("query_prompt", "query_prompt_name", "corpus_prompt", "corpus_prompt_name")
        prompts = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {**super().get_config_dict(), **prompts}

    # -- score functions ---------------------------------------------------------------------------------------------

    def _model_score_functions(self, model: Any) -> Mapping[str, Score]:
        """Return the score functions of a model, used where none are given."""
        return {model.similarity_fn_name: model.similarity}

    def _functions(self, model: Any) -> Mapping[str, Score]:
        # A model's own are asked for anew at each call and not kept, for they would keep the model.
        functions = self.score_functions or self._model_score_functions(model)
        if sorted(functions) != self.score_function_names:
            if self.score_function_names:
                self.primary_metric = None
            self._use(sorted(functions))
        return functions

    def _use(self, names: list[str]) -> None:
        self.score_function_names = names
        self._set_columns(f"{name}-{_TITLES[kind]}@{k}" for name in names for kind, k in self._cells())

    def _cells(self) -> Iterable[tuple[str, int]]:
        """Yield the name and the k of each number of one score function, in the order of the table."""
        yield from (("accuracy@k", k) for k in self.accuracy_at_k)
        yield from ((kind, k) for k in self.precision_recall_at_k for kind in ("precision@k", "recall@k"))
        yield from (("mrr@k", k) for k in self.mrr_at_k)
        yield from (("ndcg@k", k) for k in self.ndcg_at_k)
        yield from (("map@k", k) for k in self.map_at_k)

    def _best_function(self, scores: Mapping[str, Scores]) -> str:
        if not self.ndcg_at_k:
            raise InputError("ndcg_at_k must hold at least one k, since the primary metric is the NDCG; got none")
        most = max(self.ndcg_at_k)
        if self.main_score_function is not None:
            return f"{self.main_score_function.value}_ndcg@{most}"
        best = max(self.score_function_names, key=lambda name: scores[name]["ndcg@k"][most])
        return f"{best}_ndcg@{most}"

    # -- searching ---------------------------------------------------------------------------------------------------

    def _check(self, corpus_embeddings: Any) -> None:
        if not self.queries:
            raise InputError("no query has a relevant document: the keys of relevant_docs must be ids of queries")
        if corpus_embeddings is not None and len(corpus_embeddings) != len(self.corpus):
            raise InputError(
                f"corpus_embeddings must have a row for each of the {len(self.corpus)} documents of the corpus, in its "
                f"order; got {len(corpus_embeddings)}"
            )

    def _search(
        self, model: Any, corpus_model: Any, corpus_embeddings: Any, functions: Mapping[str, Score], ranks: Any
    ) -> dict[str, BestHits]:
        """Return the best documents of each query by each score function."""
        depths = (*self.mrr_at_k, *self.ndcg_at_k, *self.accuracy_at_k, *self.precision_recall_at_k, *self.map_at_k)
        most = min(max(depths, default=1), len(self.corpus))
        prompts = {"prompt_name": self.query_prompt_name, "prompt": self.query_prompt}
        queries = self.embed_inputs(model, self.queries, encode_fn_name="query", **prompts)
        found = {name: BestHits(len(self.queries), most) for name in functions}
        steps = range(0, len(self.corpus), self.corpus_chunk_size)
        for i in trange(len(steps), desc="Chunks of the corpus", disable=not self.show_progress_bar):
            chunk = slice(steps[i], min(steps[i] + self.corpus_chunk_size, len(self.corpus)))
            documents = self._documents(corpus_model, chunk, corpus_embeddings, queries)
            for name, function in functions.items():
                for asking, some, scores in score_blocks(queries, documents, function):
                    found[name].add(asking, scores, ranks[chunk][some])
            del documents  # before the next chunk is encoded
        return found

    def _documents(self, model: Any, chunk: slice, corpus_embeddings: Any, queries: Any) -> Any:
        """Return the vectors of some documents, on the queries' device."""
        if corpus_embeddings is None:
            prompts = {"prompt_name": self.corpus_prompt_name, "prompt": self.corpus_prompt}
            return self.embed_inputs(model, self.corpus[chunk], encode_fn_name="document", **prompts)
        documents = rows_of(corpus_embeddings, chunk)
        both = isinstance(documents, torch.Tensor) and isinstance(queries, torch.Tensor)
        return documents.to(queries.device) if both else documents

    def _encode_options(self) -> dict[str, Any]:
        return {"convert_to_tensor": True, "truncate_dim": self.truncate_dim}

    def _write_predictions(self, folder: Path, name: str, hits: Sequence[Any]) -> None:
        path = folder / self.predictions_file.replace(".jsonl", f"_{name}.jsonl")
        rows = zip(self.queries_ids, self.queries, hits, strict=True)
        lines = [json.dumps({"query_id": key, "query": text, "results": found}) + "\n" for key, text, found in rows]
        write_bytes(path, "".join(lines).encode())


_TITLES = {
    "accuracy@k": "Accuracy",
    "precision@k": "Precision",
    "recall@k": "Recall",
    "mrr@k": "MRR",
    "ndcg@k": "NDCG",
    "map@k": "MAP",
}
