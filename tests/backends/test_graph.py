"""Whole graphs give torch's numbers without torch: in every way of calling, and in a process that has none of it."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests import graphs
from tests.graphs import EXACT
from tests.support import TEXTS, read_json
from tests.tolerances import BATCH, FORMULA_LARGE, PACKED

import fourfold
from fourfold import SentenceTransformer, SparseEncoder
from fourfold.errors import FolderError, InputError, MissingExtraError
from fourfold.modules import Router
from fourfold.runtimes import KINDS
from fourfold.search import Index
from fourfold.search.pipeline import Pipeline
from fourfold.testing import tiny

pytestmark = pytest.mark.usefixtures("traced_once")

PAIRS = [("the query", "a document"), ("the query", "the long text of the world " * 5), ("", ""), ("short", "x")]
PASSAGES = ["First of all the world. " * 40 + "A document. " * 20, "the short text", "", "x " * 90]
LONG = "The quick brown fox. " * 60 + "The world of documents. " * 30
PROMPTS = {"query": "the query of ", "document": "text: "}
# Texts of every length, so that batches are padded and sorted.
MANY = [f"{'the world of ' * (number % 23)}{number}" for number in range(90)]


def save_models(root):
    dense = SentenceTransformer(
        modules=[*graphs.dense(root / "a", include_prompt=False)],
        prompts=PROMPTS,
        similarity_fn_name="dot",
        device="cpu",
    )
    sparse = graphs.sparse(root / "b")
    router = Router.for_query_document([*tiny("sparse", "static")], [*graphs.sparse(root / "c")])
    routed = SparseEncoder(modules=[router], device="cpu", max_active_dims=20)
    cross = graphs.cross(root / "d", prompts={"query": "the "})
    return {"dense": dense, "sparse": sparse, "routed": routed, "cross": cross}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def folders(models, tmp_path_factory):
    """The folder of each model on torch, and of its whole graphs for each runtime."""
    root = tmp_path_factory.mktemp("folders")
    for name, model in models.items():
        model.save(str(root / "torch" / name))
        for kind in KINDS:
            fourfold.export(model, root / kind / name, kind, whole=True)
    return root


@pytest.fixture(scope="module", params=KINDS)
def encoders(request, folders):
    kind = request.param
    return {
        folder.name: fourfold.load(folder, backend=kind, **EXACT[kind]) for folder in sorted((folders / kind).iterdir())
    }


def near(got, wanted, atol=PACKED):
    got, wanted = (each.dense() if hasattr(each, "dense") else each for each in (got, wanted))
    wanted = wanted.to_dense().numpy() if hasattr(wanted, "to_dense") else wanted
    assert got.dtype == wanted.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=atol)


# -- without torch -----------------------------------------------------------------------------------------------------

WITHOUT = """
import json, sys
from pathlib import Path

kind, other, folder, texts, out, options = sys.argv[1:]
blocked = {"torch", "transformers", "onnx", "onnxscript", "onnx_ir", "nncf", "optimum", other}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())

import numpy as np
import fourfold
from fourfold.search import Index
from fourfold.search.pipeline import Pipeline

texts, pairs, passages, long, question = json.loads(Path(texts).read_text())
options = json.loads(options)
dense, sparse, routed, cross = (
    fourfold.load(f"{folder}/{name}", **options) for name in ("dense", "sparse", "routed", "cross")
)
index = Index(f"{folder}/../notes", model=[dense, sparse], folder=f"{out}-index")
index.update()
hits = Pipeline([index], cross, 5).search(question, top_k=3)
plain = index.search(question, top_k=3)
found = {
    "dense": dense.encode(texts), "queries": dense.encode_query(texts), "one": dense.encode(texts[0]),
    "similarity": dense.similarity(dense.encode(texts), dense.encode(texts)),
    "stream": np.stack([*dense.encode_stream(iter(texts))]), "chunks": dense.encode_chunks(long, size=40).vectors,
    "sparse": sparse.encode(texts).dense(), "routed": routed.encode_query(texts).dense(),
    "cross": cross.predict(pairs), "ranks": [[hit["corpus_id"], hit["score"]] for hit in cross.rank("a", passages)],
    "passages": [[h["corpus_id"], h["score"], h["start"], h["stop"]] for h in cross.rank_passages("the", passages)],
    "hits": [hit.score for hit in hits], "plain": [hit.score for hit in plain],
}
np.savez(out, **found)
named = [[f"{hit.path}:{hit.line}" for hit in some] for some in (hits, plain)]
words = sparse.decode(sparse.encode(texts[0]), top_k=2)
print(json.dumps([
    [dense.backend, sparse.backend, routed.backend, cross.backend],
    sorted(blocked & {name.partition(".")[0] for name in sys.modules}), named, words,
]))
"""


@pytest.fixture(scope="module")
def notes(folders):
    folder = folders / "notes"
    folder.mkdir()
    for number, text in enumerate([*TEXTS, LONG]):
        (folder / f"{number}.md").write_text(text)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def alone(request, folders, notes, tmp_path_factory):
    """What a process that can import neither torch nor the other runtime makes of the folders."""
    kind = request.param
    (other,) = (runtime.package for name, runtime in KINDS.items() if name != kind)
    place = tmp_path_factory.mktemp("alone")
    (place / "texts.json").write_text(json.dumps([TEXTS, PAIRS, PASSAGES, LONG, "a quick fox of the world"]))
    arguments = [kind, other, str(folders / kind), str(place / "texts.json"), str(place / "out.npz")]
    options = json.dumps(EXACT[kind])
    done = subprocess.run([sys.executable, "-c", WITHOUT, *arguments, options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(place / "out.npz") as found:
        return kind, dict(found), json.loads(done.stdout.splitlines()[-1])


def test_folders_run_where_there_is_no_torch(alone, models):
    kind, found, (backends, imported, _, words) = alone
    assert backends == [kind] * 4
    assert imported == []
    dense, cross = models["dense"], models["cross"]
    near(found["dense"], dense.encode(TEXTS))
    near(found["stream"], dense.encode(TEXTS))
    near(found["chunks"], dense.encode_chunks(LONG, size=40).vectors)
    near(found["queries"], dense.encode_query(TEXTS))
    near(found["one"], dense.encode(TEXTS[0]))
    near(found["similarity"], dense.similarity(dense.encode(TEXTS), dense.encode(TEXTS)).numpy())
    near(found["sparse"], models["sparse"].encode(TEXTS))
    near(found["routed"], models["routed"].encode_query(TEXTS))
    near(found["cross"], cross.predict(PAIRS))
    wanted = [(hit["corpus_id"], hit["score"]) for hit in cross.rank("a", PASSAGES)]
    np.testing.assert_allclose(found["ranks"], wanted, atol=PACKED)
    hits = cross.rank_passages("the", PASSAGES)
    wanted = [(hit["corpus_id"], hit["score"], hit["start"], hit["stop"]) for hit in hits]
    np.testing.assert_allclose(found["passages"], wanted, atol=PACKED)
    sparse = models["sparse"]
    assert [word for word, _ in words[0]] == [word for word, _ in sparse.decode(sparse.encode(TEXTS[0]), top_k=2)]


def test_a_search_without_torch_finds_the_same(alone, folders, models, notes, tmp_path):
    _, found, (_, _, (reranked, plain), _) = alone
    on_torch = [fourfold.load(folders / "torch" / name, backend="torch", device="cpu") for name in ("dense", "sparse")]
    index = Index(notes, model=on_torch, folder=tmp_path)
    index.update()
    for names, scores, hits in (
        (plain, found["plain"], index.search("a quick fox of the world", top_k=3)),
        (reranked, found["hits"], Pipeline([index], models["cross"], 5).search("a quick fox of the world", top_k=3)),
    ):
        assert [name.rpartition("/")[2] for name in names] == [f"{hit.path}:{hit.line}" for hit in hits]
        np.testing.assert_allclose(scores, [hit.score for hit in hits], atol=10 * PACKED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["dense", "sparse", "routed", "cross"])
def test_graphs_are_taken_where_there_are_no_weights(folders, name, kind):
    assert fourfold.load(folders / kind / name).backend == kind
    assert fourfold.load(folders / "torch" / name).backend == ("static" if name == "routed" else "torch")


def test_what_is_left_to_torch_says_so_where_it_is_missing(folders, monkeypatch):
    monkeypatch.setattr("fourfold.errors.installed", lambda package: package not in ("torch", "transformers"))
    with pytest.raises(MissingExtraError, match=r'pip install "fourfold\[torch\]"'):
        fourfold.load(folders / "torch" / "dense", backend="torch")


# -- every way of calling ----------------------------------------------------------------------------------------------

DENSE_CALLS = {
    "many": lambda m: m.encode(MANY),
    "tuple": lambda m: m.encode(tuple(TEXTS)),
    "array": lambda m: m.encode(np.array(TEXTS)),
    "one": lambda m: m.encode(TEXTS[0]),
    "queries": lambda m: m.encode_query(TEXTS),
    "documents": lambda m: m.encode_document(TEXTS),
    "prompt": lambda m: m.encode(TEXTS, prompt="the "),
    "prompt name": lambda m: m.encode(TEXTS, prompt_name="query"),
    "any task": lambda m: m.encode(TEXTS, task="query"),
    "small": lambda m: m.encode(TEXTS, batch_size=1),
    "normalised": lambda m: m.encode(TEXTS, normalize_embeddings=True),
    "stream": lambda m: np.stack([*m.encode_stream(iter(MANY), window=20, prompt="the ")]),
    "chunks": lambda m: np.concatenate([text.vectors for text in m.encode_chunks([LONG, "short"], size=40)]),
    "overlapping chunks": lambda m: m.encode_chunks(LONG, size=40, overlap=9, prompt="the ").vectors,
    "own chunks": lambda m: m.encode_chunks(LONG, spans=[(0, 10), (10, 300)]).vectors,
}


@pytest.mark.parametrize("name", DENSE_CALLS)
def test_every_call_of_a_dense_encoder(encoders, models, name):
    near(DENSE_CALLS[name](encoders["dense"]), DENSE_CALLS[name](models["dense"]))


SPARSE_CALLS = {
    "many": lambda m: m.encode(MANY),
    "one": lambda m: m.encode([TEXTS[0]]),
    "queries": lambda m: m.encode_query(TEXTS),
    "documents": lambda m: m.encode_document(TEXTS),
    "task": lambda m: m.encode(TEXTS, task="document"),
    "prompt": lambda m: m.encode(TEXTS, prompt="the "),
    "active": lambda m: m.encode(TEXTS, max_active_dims=3),
    "small": lambda m: m.encode(TEXTS, batch_size=1),
}


@pytest.mark.parametrize("name", SPARSE_CALLS)
@pytest.mark.parametrize("model", ["sparse", "routed"])
def test_every_call_of_a_sparse_encoder(encoders, models, model, name):
    near(SPARSE_CALLS[name](encoders[model]), SPARSE_CALLS[name](models[model]))


def test_each_text_may_state_its_route(encoders, models):
    rows = [{("query", "document")[place % 2]: text} for place, text in enumerate(TEXTS)]
    near(encoders["routed"].encode(rows).dense(), models["routed"].encode(rows))
    found = [row.dense() for row in encoders["routed"].encode_stream(iter(rows), window=3)]
    near(np.concatenate(found), models["routed"].encode(rows))
    with pytest.raises(InputError, match="inputs that state their task do so all"):
        encoders["routed"].encode([*rows, "a text"])


def test_a_sparse_stream(encoders, models):
    for task in ("query", "document"):
        call = {"task": task, "max_active_dims": 2}
        found = [row.dense() for row in encoders["routed"].encode_stream(iter(TEXTS), window=3, **call)]
        near(np.concatenate(found), models["routed"].encode(TEXTS, **call))


CROSS_CALLS = {
    "many": lambda m: m.predict(PAIRS),
    "lists": lambda m: m.predict([list(pair) for pair in PAIRS]),
    "one": lambda m: np.atleast_1d(m.predict(PAIRS[1])),
    "prompt": lambda m: m.predict(PAIRS, prompt="of the "),
    "prompt name": lambda m: m.predict(PAIRS, prompt_name="query"),
    "small": lambda m: m.predict(PAIRS * 5, batch_size=1),
}


@pytest.mark.parametrize("name", CROSS_CALLS)
def test_every_call_of_a_cross_encoder(encoders, models, name):
    near(CROSS_CALLS[name](encoders["cross"]), CROSS_CALLS[name](models["cross"]))


@pytest.mark.parametrize("options", [{}, {"size": 30, "overlap": 5}, {"prompt": "the query: "}, {"top_k": 2}], ids=str)
def test_documents_are_sorted_by_their_best_passage(encoders, models, options):
    got, wanted = (
        model.rank_passages("the query", PASSAGES, return_documents=True, **options)
        for model in (encoders["cross"], models["cross"])
    )
    for one, other in zip(got, wanted, strict=True):
        assert {**one, "score": pytest.approx(one["score"], abs=PACKED)} == other


def test_a_batch_gives_what_each_text_alone_gives(encoders):
    dense, sparse, cross = (encoders[name] for name in ("dense", "sparse", "cross"))
    near(dense.encode(MANY), np.stack([dense.encode(text) for text in MANY]))
    near(sparse.encode(MANY), np.concatenate([sparse.encode(text).dense() for text in MANY]))
    near(cross.predict(PAIRS), np.array([cross.predict(pair) for pair in PAIRS], np.float32))
    order = np.random.default_rng(0).permutation(len(MANY))
    near(dense.encode([MANY[i] for i in order]), dense.encode(MANY)[order])


def test_no_texts(encoders):
    assert encoders["dense"].encode([]).shape == (0, 32)
    nothing = encoders["sparse"].encode([])
    assert (len(nothing), nothing.width) == (0, encoders["sparse"].get_embedding_dimension())
    assert encoders["cross"].predict([]).shape == (0,)
    assert list(encoders["dense"].encode_stream([])) == []


def test_what_an_encoder_says_of_itself(encoders, models, folders):
    dense, cross = encoders["dense"], encoders["cross"]
    assert (dense.prompts, dense.similarity_fn_name) == (models["dense"].prompts, "dot")
    assert dense.get_embedding_dimension() == 32
    assert encoders["sparse"].get_embedding_dimension() == models["sparse"].get_embedding_dimension()
    assert encoders["routed"].max_active_dims == 20
    assert (cross.num_labels, cross.prompts["query"]) == (1, "the ")
    prints = {encoder.fingerprint for name, encoder in encoders.items() if name != "cross"}
    assert len(prints) == 3
    again = fourfold.load(folders / dense.backend / "dense", backend=dense.backend)
    assert again.fingerprint == dense.fingerprint


def test_several_threads_share_an_encoder(encoders):
    alone = encoders["dense"].encode(MANY)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: encoders["dense"].encode(MANY), range(8)):
            near(rows, alone, BATCH * 10)


def test_batches_that_do_not_fit_are_halved(folders, models):
    encoder = fourfold.load(folders / "onnx" / "dense", backend="onnx")
    graph = encoder._graphs.backend().graph
    run, sizes = graph.run, []

    def short_of_memory(feeds):
        sizes.append(feeds["input_ids"].size)
        if sizes[-1] > 150:
            raise MemoryError
        return run(feeds)

    graph.run = short_of_memory
    near(encoder.encode(MANY), models["dense"].encode(MANY))
    assert max(sizes) > 150


# -- settings and what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_settings_that_the_caller_gives(folders, models, kind):
    dense = fourfold.load(
        folders / kind / "dense", backend=kind, truncate_dim=5, prompts={"own": "the "}, default_prompt_name="own",
        similarity_fn_name="euclidean", **EXACT[kind],
    )  # fmt: skip
    wanted = models["dense"].encode(TEXTS, prompt="the ")[:, :5]
    near(dense.encode(TEXTS), wanted)
    near(dense.encode(TEXTS, normalize_embeddings=True), wanted / np.linalg.norm(wanted, axis=1, keepdims=True))
    assert (dense.get_embedding_dimension(), dense.similarity_fn_name) == (5, "euclidean")
    sparse = fourfold.load(folders / kind / "sparse", backend=kind, max_active_dims=4, **EXACT[kind])
    near(sparse.encode(TEXTS), models["sparse"].encode(TEXTS, max_active_dims=4))
    cross = fourfold.load(folders / kind / "cross", backend=kind, default_prompt_name="query", **EXACT[kind])
    near(cross.predict(PAIRS), models["cross"].predict(PAIRS, prompt_name="query"))


def test_an_activation_for_the_logits(encoders, models):
    cross = encoders["cross"]
    logits = cross.predict(PAIRS, activation_fn=lambda rows: rows)
    np.testing.assert_allclose(cross.predict(PAIRS), 1 / (1 + np.exp(-logits)), atol=FORMULA_LARGE)
    with pytest.raises(InputError, match=r"position 1 .*NaN"):
        cross.predict(PAIRS, activation_fn=lambda rows: np.where(rows == logits[1], np.nan, rows))


def test_several_labels(models, tmp_path):
    models["cross"].save(str(tmp_path))
    graphs.scoring(tmp_path, 3)
    encoder = fourfold.load(tmp_path, backend="onnx")
    ids = [models["cross"].tokenizer.backend_tokenizer.encode(*pair).ids for pair in PAIRS]
    logits = np.stack([graphs.table(3)[row].sum(0) for row in ids]) / 4
    scores = 1 / (1 + np.exp(-logits))
    near(encoder.predict(PAIRS), scores)
    near(encoder.predict(PAIRS[0]), scores[0])
    near(encoder.predict(PAIRS, activation_fn=lambda rows: 2 * rows), 2 * logits, PACKED * 10)
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    near(encoder.predict(PAIRS, apply_softmax=True), shares)
    for sort in (encoder.rank, encoder.rank_passages):
        with pytest.raises(InputError, match="rank needs a model with one label, this one has 3"):
            sort("a", ["b"])


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("dense", {"device": "cpu"}, "does not know an argument: .*'device'"),
        ("dense", {"max_active_dims": 3}, "'max_active_dims'"),
        ("sparse", {"truncate_dim": 3}, "'truncate_dim'"),
        ("cross", {"num_labels": 1}, "'num_labels'"),
        ("dense", {"default_prompt_name": "nothing"}, "nothing"),
        ("dense", {"similarity_fn_name": "cosinus"}, "Did you mean 'cosine'"),
    ],
)
def test_arguments_that_a_graph_does_not_take(folders, name, options, said):
    with pytest.raises(InputError, match=said):
        fourfold.load(folders / "onnx" / name, backend="onnx", **options)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"file_name": "whole_int8.onnx"}, r"file_name must be one of whole\.onnx"),
        ({"provider": "CUDAExecutionProvidr"}, "provider must be one that onnxruntime has here"),
        ({"provder": "CPUExecutionProvider"}, "does not know the option 'provder'.*Did you mean 'provider'"),
    ],
)
def test_options_of_the_runtime_that_are_unusable(folders, kwargs, said):
    with pytest.raises(InputError, match=said):
        fourfold.load(folders / "onnx" / "dense", backend="onnx", model_kwargs=kwargs).encode("a text")


def test_calls_that_are_refused(encoders):
    with pytest.raises(InputError, match="task must be one of query, document, got 'answer'"):
        encoders["routed"].encode(TEXTS, task="answer")
    with pytest.raises(InputError, match="position 1: NoneType"):
        encoders["dense"].encode(["a", None])
    with pytest.raises(InputError, match="batch_size"):
        encoders["sparse"].encode(TEXTS, batch_size=0)
    with pytest.raises(InputError, match="not among the prompts"):
        encoders["dense"].encode(TEXTS, prompt_name="nothing")
    with pytest.raises(InputError, match=r"late=True needs .*Give late=False"):
        encoders["dense"].encode_chunks(LONG, late=True)
    with pytest.raises(InputError, match="position 1"):
        encoders["cross"].rank_passages("a", ["b", None])


def copied(folders, tmp_path, change):
    """Return a copy of a folder of graphs whose description is changed."""
    folder = tmp_path / "model"
    source = folders / "onnx" / "dense"
    for path in (path for path in source.rglob("*") if path.is_file()):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    described = read_json(folder / "onnx" / "whole.json")
    change(described["graphs"][0])
    (folder / "onnx" / "whole.json").write_text(json.dumps(described))
    return folder


def test_a_graph_that_is_not_what_its_description_promises(folders, tmp_path):
    folder = copied(folders, tmp_path, lambda graph: graph["outputs"][0].update(name="vectors"))
    with pytest.raises(FolderError, match=r"whole\.onnx gives sentence_embedding, its description promises vectors"):
        fourfold.load(folder, backend="onnx").encode("a text")


def test_a_file_that_is_missing(folders, tmp_path):
    folder = copied(folders, tmp_path, lambda graph: graph.update(file="other.onnx"))
    with pytest.raises(FolderError, match=r"onnx/other\.onnx is missing"):
        fourfold.load(folder, backend="onnx").encode("a text")


def test_texts_are_cut_on_the_side_and_at_the_length_that_the_description_names(folders, tmp_path):
    folder = copied(folders, tmp_path, lambda graph: graph.update(max_length=6, truncation_side="left"))
    encoder = fourfold.load(folder, backend="onnx")
    near(encoder.encode("the query of the short world"), encoder.encode("of the short world"))
