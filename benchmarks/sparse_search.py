"""Exact search in sparse rows: fourfold's index beside scipy, splade-index, bm25s and seismic.

    python benchmarks/sparse_search.py --docs 10000 100000 1000000 [--output benchmarks/results/sparse_search.md]

Every contender answers the same queries on the same weights in one run, in turn, twenty queries at a time; scipy's
sparse product says what is right. The rivals beside scipy take part if they can be imported (``--rivals`` adds a
folder to the path, e.g. one made by ``pip install --target FOLDER pyseismic-lsr splade-index numba``).

**Weights.** The texts of the data folder (abstracts, Wikipedia, health answers, news) are cut into passages of whole
sentences, 64 word pieces or more, in all-MiniLM-L6-v2's vocabulary of 30,522. A trained SPLADE is not to be had
here, so its effect is imitated: a piece's tf-idf spreads to its 12 nearest neighbours by the model's input embeddings,
the sums are squashed by log(1 + 0.3 x), and the 128 heaviest terms stay. Up to 170,000 documents are such passages;
beyond, a document takes each term of one passage with probability 0.6 and of a passage close by in the same source with
0.4. Queries are real questions and claims, asked in two ways: *expanded*, as the documents are, up to 40 terms; and
*idf*, the pieces of the question alone, weighted by their rarity, as inference-free models ask.

Recall is the share of the ten best documents by scipy's scores, of equal ones any; the error is the largest of a score
relative to scipy's. seismic is approximate by design and keeps weights in half precision.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import sparse

from _common import ROOT, child, machine, minilm, read_lines, report, table
from fourfold.containers import Terms
from fourfold.search.sparse_index import SparseIndex

DATA = ROOT.parent / "shared" / "data"
WIDTH = 30522
TOP_K = 10
WARM = 20  # queries before the clock counts
BLOCK = 20  # queries that a contender answers in a row
THREADS = os.cpu_count() or 1
CLOSE = 1e-5  # relative: scipy adds in float32, in another order
Answer = Callable[[int], tuple[np.ndarray, np.ndarray]]  # number of a query to the best documents and their scores


def texts(data: Path) -> Iterator[str]:
    """Yield the texts that documents are made of."""
    yield from read_lines(data / "texts" / "mixed_20k.txt.gz")
    for name in ("scifact", "cranfield", "cacm", "cisi", "medquad_dev"):
        yield from fields(data / name / "corpus.jsonl.gz", "title", "text")
    for name, key in (("papers", "positive"), ("medquad", "positive"), ("squad_sentence", "anchor")):
        yield from fields(data / "pairs" / f"{name}.jsonl.gz", key)
    for name, key in (("wiki_split", "anchor"), ("pubmedqa", "positive")):
        yield from fields(data / "pairs" / f"{name}.jsonl.gz", key)
    with gzip.open(data / "classification" / "agnews_test.csv.gz", "rt", encoding="utf-8", newline="") as file:
        yield from (row["text"] for row in csv.DictReader(file))


def questions(data: Path) -> Iterator[str]:
    """Yield questions, titles and claims."""
    for name, key in (("squad_sentence", "positive"), ("medquad", "anchor"), ("pubmedqa", "anchor")):
        yield from fields(data / "pairs" / f"{name}.jsonl.gz", key)
    yield from fields(data / "scifact" / "queries.jsonl.gz", "text")


def fields(path: Path, *keys: str) -> Iterator[str]:
    """Yield fields of each line of a JSON file, joined."""
    for line in read_lines(path):
        row = json.loads(line)
        yield " ".join(str(row[key]) for key in keys if row[key])


class Corpus:
    """Weights of passages and queries, see the top of this file."""

    def __init__(self, data: Path, queries: int) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(minilm() / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        counts = self._passages(list(dict.fromkeys(texts(data))))
        having = np.bincount(counts.indices, minlength=WIDTH)
        self.idf = np.log(1 + (counts.shape[0] - having + 0.5) / (having + 0.5)).astype(np.float32)
        spread = neighbours(having > 0)
        self.passages = self._expanded(counts, spread, 128)
        chosen = random.Random(0).sample(list(dict.fromkeys(questions(data))), queries)
        asked = self._counts([self._ids([question])[0] for question in chosen])
        self.queries = {"expanded": self._expanded(asked, spread, 40), "idf": asked.multiply(self.idf).tocsr()}
        self.queries["idf"].data /= asked.data  # once, however often it is asked

    def _ids(self, strings: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(strings, add_special_tokens=False)]

    def _counts(self, rows: list[list[int]]) -> sparse.csr_matrix:
        row = np.repeat(np.arange(len(rows)), [len(ids) for ids in rows])
        term = np.concatenate([np.array(ids, np.int32) for ids in rows])
        counts = sparse.csr_matrix((np.ones(len(row), np.float32), (row, term)), (len(rows), WIDTH))
        counts.sort_indices()
        return counts

    def _passages(self, documents: list[str]) -> sparse.csr_matrix:
        passages: list[list[int]] = []
        for start in range(0, len(documents), 5000):
            sentences = [
                (number, sentence[:2000])
                for number, text in enumerate(documents[start : start + 5000])
                for sentence in re.split(r"(?<=[.!?])\s+", text)
                if sentence
            ]
            before = -1
            for (number, _), ids in zip(sentences, self._ids([text for _, text in sentences]), strict=True):
                if number != before or len(passages[-1]) >= 64:
                    passages.append([])
                passages[-1] += ids
                before = number
        return self._counts([ids for ids in passages if len(ids) >= 5])

    def _expanded(self, counts: sparse.csr_matrix, spread: sparse.csr_matrix, most: int) -> sparse.csr_matrix:
        parts = []
        for start in range(0, counts.shape[0], 20_000):
            weights = counts[start : start + 20_000].copy()
            weights.data = 2.2 * weights.data / (weights.data + 1.2)
            sums = (weights.multiply(self.idf).tocsr() @ spread).tocsr()
            sums.data = np.log1p(0.3 * np.maximum(sums.data - 0.9, 0)).astype(np.float32)
            parts.append(heaviest(sums, most))
        return sparse.vstack(parts, format="csr")

    def documents(self, count: int) -> sparse.csr_matrix:
        """Return the weights ``[count, 30522]`` of that many documents."""
        chance, passages = np.random.default_rng(1), self.passages.shape[0]
        if count <= passages:
            return self.passages[np.sort(chance.permutation(passages)[:count])]
        parts = []
        for start in range(0, count, 50_000):
            rows = min(50_000, count - start)
            first = chance.integers(0, passages, rows)
            second = np.clip(first + chance.integers(1, 50, rows) * chance.choice([-1, 1], rows), 0, passages - 1)
            halves = []
            for numbers, share in ((first, 0.6), (second, 0.4)):
                half = self.passages[numbers]
                half.data[chance.random(half.nnz) >= share] = 0
                half.eliminate_zeros()
                halves.append(half)
            mixed = halves[0].maximum(halves[1]).tocsr()
            mixed.sort_indices()
            parts.append(mixed)
        return sparse.vstack(parts, format="csr")


def neighbours(known: np.ndarray, most: int = 12) -> sparse.csr_matrix:
    """Return for each known piece its nearest by cosine of the input embeddings, at least 0.25, and itself with 1."""
    from safetensors.numpy import load_file

    weights = load_file(str(minilm() / "model.safetensors"))
    vectors = next(value for name, value in weights.items() if name.endswith("word_embeddings.weight"))
    vectors = (vectors - vectors[known].mean(0)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    row, column, value = [], [], []
    for start in range(0, len(vectors), 2048):
        cosine = vectors[start : start + 2048] @ vectors.T
        cosine[:, ~known] = 0
        near = np.argpartition(-cosine, most, axis=1)[:, :most]
        found = np.take_along_axis(cosine, near, 1)
        at, place = np.nonzero(found >= 0.25)
        row.append(at + start)
        column.append(near[at, place])
        value.append(found[at, place])
    matrix = sparse.csr_matrix(
        (np.concatenate(value), (np.concatenate(row), np.concatenate(column))), (WIDTH, WIDTH), dtype=np.float32
    )
    matrix.setdiag(1)
    return matrix


def heaviest(rows: sparse.csr_matrix, most: int) -> sparse.csr_matrix:
    """Return the heaviest entries of each row, without zeros."""
    rows.eliminate_zeros()
    lengths = np.diff(rows.indptr)
    row = np.repeat(np.arange(rows.shape[0]), lengths)
    # One sort by row, then by falling weight: bits of positive floats are ordered as they are.
    order = np.argsort((row << 32) - rows.data.view(np.int32))
    kept = np.sort(order[np.arange(rows.nnz) - np.repeat(rows.indptr[:-1], lengths) < most])
    ends = np.concatenate([[0], np.cumsum(np.minimum(lengths, most))])
    cut = sparse.csr_matrix((rows.data[kept], rows.indices[kept], ends), rows.shape)
    cut.sort_indices()
    return cut


def terms(matrix: sparse.csr_matrix) -> Terms:
    """Return a matrix as fourfold's rows, over the same memory."""
    return Terms(matrix.indptr.astype(np.int64), matrix.indices, matrix.data, matrix.shape[1])


def ours(index: SparseIndex, queries: sparse.csr_matrix) -> Answer:
    """Return fourfold's search."""
    rows = [terms(queries[number]) for number in range(queries.shape[0])]

    def answer(number: int) -> tuple[np.ndarray, np.ndarray]:
        hits = index.search(rows[number], TOP_K)
        return hits.ids[0], hits.scores[0]

    return answer


def scipys(turned: sparse.csr_matrix, queries: sparse.csr_matrix) -> Answer:
    """Return a sparse product with the documents by term, and a partial sort of what is not 0."""
    rows = [queries[number] for number in range(queries.shape[0])]

    def answer(number: int) -> tuple[np.ndarray, np.ndarray]:
        found = rows[number] @ turned
        best = np.argpartition(found.data, found.nnz - TOP_K)[-TOP_K:]
        best = best[np.argsort(-found.data[best])]
        return found.indices[best], found.data[best]

    return answer


def bm25s(turned: sparse.csr_matrix, queries: sparse.csr_matrix, idf: np.ndarray) -> Answer:
    """Return bm25s's search on our weights; it knows no query weights, so idf is multiplied in beforehand."""
    import bm25s as package

    rival = package.BM25(backend="numpy")
    data = turned.data * np.repeat(idf, np.diff(turned.indptr))
    rival.scores = {"data": data, "indices": turned.indices, "indptr": turned.indptr, "num_docs": turned.shape[1]}
    rival.nonoccurrence_array = None
    rows = [queries[number].indices for number in range(queries.shape[0])]

    def answer(number: int) -> tuple[np.ndarray, np.ndarray]:
        return package.selection.topk(rival.get_scores_from_ids(rows[number]), TOP_K, sorted=True)[::-1]

    return answer


def splade_index(turned: sparse.csr_matrix, queries: sparse.csr_matrix, backend: str) -> Answer:
    """Return splade-index's search on our weights, which a stand-in for its model hands over."""
    import splade_index as package
    import torch

    class Vectors:
        def to_sparse_csc(self):
            columns = (torch.from_numpy(values) for values in (turned.indptr, turned.indices, turned.data))
            return torch.sparse_csc_tensor(*columns, turned.shape[::-1], check_invariants=False)

    class Model:
        tokenizer = type("Tokenizer", (), {"get_vocab": lambda self: {str(i): i for i in range(WIDTH)}})()

        def encode_document(self, *args, **kwargs):
            return Vectors()

        def encode_query(self, numbers, **kwargs):
            return [rows[int(number)] for number in numbers]

    rows = []
    for number in range(queries.shape[0]):
        index, data = torch.from_numpy(queries[number].indices)[None].long(), torch.from_numpy(queries[number].data)
        rows.append(torch.sparse_coo_tensor(index, data, (WIDTH,), is_coalesced=True, check_invariants=False))
    rival = package.SPLADE(backend=backend)
    rival.index(Model(), [""] * turned.shape[1], show_progress=False, compile_numba_code=False)

    def answer(number: int) -> tuple[np.ndarray, np.ndarray]:
        found = rival.retrieve([str(number)], k=TOP_K, show_progress=False)
        return found.doc_ids[0], found.scores[0]

    return answer


def seismic(documents: sparse.csr_matrix, queries: sparse.csr_matrix, query_cut: int, heap_factor: float) -> Answer:
    """Return seismic's approximate search."""
    import seismic as package

    kind = package.get_seismic_string()
    names = np.array([str(i) for i in range(WIDTH)], dtype=kind)
    if seismic_built.get("documents") is not documents:
        dataset = package.SeismicDataset()
        for number in range(documents.shape[0]):
            part = slice(documents.indptr[number], documents.indptr[number + 1])
            dataset.add_document(str(number), names[documents.indices[part]], documents.data[part])
        start = time.perf_counter()
        index = package.SeismicIndex.build_from_dataset(dataset)
        seismic_built.update(documents=documents, index=index, seconds=time.perf_counter() - start)
    index = seismic_built["index"]
    rows = [(names[queries[i].indices], queries[i].data) for i in range(queries.shape[0])]

    def answer(number: int) -> tuple[np.ndarray, np.ndarray]:
        found = index.search(str(number), *rows[number], k=TOP_K, query_cut=query_cut, heap_factor=heap_factor)
        return np.array([int(name) for _, _, name in found]), np.array([score for _, score, _ in found])

    return answer


seismic_built: dict = {}


def contenders(
    index: SparseIndex, documents: sparse.csr_matrix, turned: sparse.csr_matrix, kind: str, corpus: Corpus, most: int
) -> dict[str, Answer]:
    """Return the searches that can take part; ``most`` is the largest number of documents for seismic."""
    queries = corpus.queries[kind]
    found = {"fourfold": ours(index, queries), "scipy": scipys(turned, queries)}
    if kind == "idf":
        found["bm25s (idf multiplied in)"] = bm25s(turned, queries, corpus.idf)
    if importlib.util.find_spec("splade_index"):
        for backend in ("numpy", "numba") if importlib.util.find_spec("numba") else ("numpy",):
            found[f"splade-index ({backend})"] = splade_index(turned, queries, backend)
    if importlib.util.find_spec("seismic") and documents.shape[0] <= most:
        for cut, factor in ((10, 0.7), (40, 1.0)):
            found[f"seismic (query_cut {cut}, heap_factor {factor})"] = seismic(documents, queries, cut, factor)
    return found


def measure(
    found: dict[str, Answer], documents: sparse.csr_matrix, queries: sparse.csr_matrix
) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, float]]:
    """Return each contender's seconds for each query, its recall, and its largest relative error of a score."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    recall: dict[str, list[float]] = {name: [] for name in found}
    error = dict.fromkeys(found, 0.0)
    chance, dense = random.Random(2), queries.astype(np.float64)
    for first in range(0, queries.shape[0], BLOCK):
        block = range(first, min(first + BLOCK, queries.shape[0]))
        answers: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in found}
        for name in chance.sample(list(found), len(found)):
            for number in block:
                start = time.perf_counter()
                answers[name].append(found[name](number))
                seconds[name].append(time.perf_counter() - start)
        for place, number in enumerate(block):
            right, query = answers["scipy"][place][1], dense[number].toarray()[0]
            for name, answer in answers.items():
                ids, scores = answer[place]
                true = documents[np.unique(np.asarray(ids, np.int64))].astype(np.float64) @ query
                recall[name].append((true >= right[-1] * (1 - CLOSE)).sum() / len(right))
                if len(scores) == len(right):
                    worst = np.abs(np.sort(np.asarray(scores, np.float64))[::-1] / right - 1).max()
                    error[name] = max(error[name], float(worst))
    taken = {name: np.array(values[WARM:]) for name, values in seconds.items()}
    return taken, {name: float(np.mean(values)) for name, values in recall.items()}, error


PROCESS = """
import json, sys, threading, time
import numpy as np
from pathlib import Path
folder, job = Path(sys.argv[1]), sys.argv[2]
def status(name):
    return next(float(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(name))
most = [0.0]
def watch():
    while True:
        most[0] = max(most[0], status("RssAnon"))
        time.sleep(0.005)
def load(name, mmap=None):
    return [np.load(folder / f"{name}.{part}.npy", mmap_mode=mmap) for part in ("indptr", "indices", "data")]
from fourfold.containers import Terms
from fourfold.search.sparse_index import SparseIndex
q = load("queries")
before = status("RssAnon")
threading.Thread(target=watch, daemon=True).start()
if job == "build":
    d = load("documents", "r")
    step = 20000
    parts = ((d[0][s:s + step + 1].astype(np.int64), s) for s in range(0, len(d[0]) - 1, step))
    rows = (Terms(o - o[0], np.array(d[1][o[0]:o[-1]]), np.array(d[2][o[0]:o[-1]]), 30522) for o, _ in parts)
    SparseIndex(folder / "built").add(rows)
elif job == "search":
    index = SparseIndex.open(folder / "index")
    index.search(Terms(q[0].astype(np.int64), q[1], q[2], 30522), 10)
else:
    from scipy import sparse
    before = status("RssAnon")
    d = load("turned")
    t = sparse.csr_matrix((d[2], d[1], d[0]))
    queries = sparse.csr_matrix((q[2], q[1], q[0]), (len(q[0]) - 1, t.shape[0]))
    for i in range(queries.shape[0]):
        scores = (queries[i] @ t).data
        np.argpartition(scores, len(scores) - 10)
most[0] = max(most[0], status("RssAnon"))
print(json.dumps({"peak": most[0] - before, "file": status("RssFile")}))
"""


def keep(folder: Path, name: str, matrix: sparse.csr_matrix) -> None:
    """Save a matrix for the measured processes."""
    for part in ("indptr", "indices", "data"):
        np.save(folder / f"{name}.{part}.npy", getattr(matrix, part))


def size(corpus: Corpus, count: int, most: int) -> list[str]:
    """Return the tables for one number of documents."""
    documents = corpus.documents(count)
    turned = documents.T.tocsr()
    entries = documents.nnz / count
    spans = ", ".join(f"{value:.2f}" for value in np.percentile(documents.data[:1_000_000], [5, 50, 95, 100]))
    lines = [
        f"## {count:,} documents",
        f"{entries:.0f} entries a document; weights at 5, 50, 95, 100 %: {spans}. {speed_note(corpus)}",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index = SparseIndex(folder / "index")
        start = time.perf_counter()
        index.add(terms(documents))
        built = time.perf_counter() - start
        rows = []
        for kind in corpus.queries:
            found = contenders(index, documents, turned, kind, corpus, most)
            seconds, recall, error = measure(found, documents, corpus.queries[kind])
            for rival, taken in seconds.items():
                p50, p99 = np.quantile(taken, [0.5, 0.99]) * 1e3
                ratio = taken.mean() / seconds["fourfold"].mean()
                line = [f"{1 / taken.mean():,.0f}", f"{p50:.2f}", f"{p99:.2f}", f"{ratio:.1f}", f"{recall[rival]:.3f}"]
                rows.append([kind, rival, *line, f"{error[rival]:.0e}"])
            together = terms(corpus.queries[kind])
            start = time.perf_counter()
            index.search(together, TOP_K, threads=THREADS)
            rate = together.offsets.size / (time.perf_counter() - start)
            rows.append([kind, f"fourfold, all queries at once, {THREADS} threads", f"{rate:,.0f}", *"-----"])
        header = ["queries", "contender", "queries/s", "p50 ms", "p99 ms", "time / fourfold's", "recall@10", "error"]
        lines.append(table(header, rows))
        keep(folder, "documents", documents)
        keep(folder, "turned", turned)
        keep(folder, "queries", corpus.queries["expanded"])
        size_mb = index.nbytes / 1e6
        scipy_mb = (turned.data.nbytes + turned.indices.nbytes + turned.indptr.nbytes) / 1e6
        del documents, turned, found
        seismic_built.pop("documents", None)
        seismic_built.pop("index", None)
        build, search, rival = (child(PROCESS, name, job) for job in ("build", "search", "scipy"))
        shutil.rmtree(folder / "built")
        memory = [
            ["index on disk", f"{size_mb:,.0f} MB", f"{scipy_mb:,.0f} MB in memory"],
            ["building from rows in memory", f"{built:.1f} s", "-"],
            ["peak memory of building from a stream of rows", f"{build['peak']:,.0f} MB", "-"],
            ["peak memory of a process that searches", f"{search['peak']:,.0f} MB", f"{rival['peak']:,.0f} MB"],
            ["mapped files of it, in the system's cache", f"{search['file']:,.0f} MB", f"{rival['file']:,.0f} MB"],
        ]
        if "seconds" in seismic_built:
            memory.append(["seismic's building, all threads", f"{seismic_built.pop('seconds'):.1f} s", "-"])
        lines.append(table(["", "fourfold", "scipy"], memory))
    return lines


def speed_note(corpus: Corpus) -> str:
    """Return how long queries are."""
    lengths = {kind: rows.nnz / rows.shape[0] for kind, rows in corpus.queries.items()}
    return "Entries a query: " + ", ".join(f"{value:.0f} {kind}" for kind, value in lengths.items()) + "."


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the texts")
    parser.add_argument("--docs", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="sizes to measure")
    parser.add_argument("--queries", type=int, default=220, help=f"queries of each kind; {WARM} of them warm up")
    parser.add_argument("--rivals", type=Path, help="folder with further packages to compare with")
    parser.add_argument("--seismic-most", type=int, default=10_000, help="documents; more take it minutes to build")
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    arguments = parser.parse_args()
    if arguments.rivals:
        sys.path.append(str(arguments.rivals))
    warnings.simplefilter("ignore")  # torch's about sparse tensors
    start = time.perf_counter()
    corpus = Corpus(arguments.data, arguments.queries)
    parts = [size(corpus, count, arguments.seismic_most) for count in arguments.docs]
    software = ", ".join(f"{name} {value}" for name, value in machine().items())
    command = "python benchmarks/sparse_search.py " + " ".join(sys.argv[1:])
    explained = (__doc__ or "").partition("**Weights.**")
    head = [
        "# Search in sparse rows",
        f"`{command}`, {time.perf_counter() - start:.0f} s in all, on {software}; one query at a time on one thread",
        "**Weights.**" + explained[2].rstrip(),
    ]
    report([*head, *(line for part in parts for line in part)], arguments.output)


if __name__ == "__main__":
    main()
