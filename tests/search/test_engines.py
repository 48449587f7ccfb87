import sys
import warnings

import numpy as np
import pytest
from tests.engine_server import EngineServer, QdrantServer
from tests.tolerances import FORMULA_LARGE

from fourfold.errors import InputError, MissingExtraError
from fourfold.search import engines
from fourfold.search.engines import (
    semantic_search_elasticsearch,
    semantic_search_opensearch,
    semantic_search_qdrant,
    semantic_search_seismic,
)

WIDTH = 60
DECODED = {
    "elasticsearch": (semantic_search_elasticsearch, "elasticsearch"),
    "opensearch": (semantic_search_opensearch, "opensearchpy"),
    "seismic": (semantic_search_seismic, "seismic"),
}


def dense(count, seed, share=0.15):
    generator = np.random.default_rng(seed)
    rows = np.where(generator.random((count, WIDTH)) < share, generator.random((count, WIDTH)) + 0.1, 0)
    rows[count // 2] = 0
    return rows.astype(np.float32)


def decoded(rows):
    return [[(f"t{term}", float(row[term])) for term in np.argsort(-row) if row[term]] for row in rows]


def exact(queries, corpus, top_k):
    """Return the best dot products of each query, those of rows that share no term left out."""
    scores = queries @ corpus.T
    return [[(i, row[i]) for i in np.argsort(-row, kind="stable")[:top_k] if row[i]] for row in scores]


def assert_hits(found, wanted, atol=FORMULA_LARGE):
    assert [[hit["corpus_id"] for hit in row] for row in found] == [[i for i, _ in row] for row in wanted]
    for row, pairs in zip(found, wanted, strict=True):
        assert all(type(hit["corpus_id"]) is int and type(hit["score"]) is float for hit in row)
        np.testing.assert_allclose([hit["score"] for hit in row], [score for _, score in pairs], atol=atol)


CORPUS, QUERIES = dense(80, 0), dense(7, 1)


@pytest.fixture
def server(request):
    pytest.importorskip(DECODED[request.param][1])
    with EngineServer(request.param) as running:
        yield running


both_servers = pytest.mark.parametrize("server", ["elasticsearch", "opensearch"], indirect=True)


# -- Qdrant, for real ------------------------------------------------------------------------------------------------


@pytest.fixture
def sparse():
    pytest.importorskip("qdrant_client")
    torch = pytest.importorskip("torch")
    return lambda rows: torch.from_numpy(rows).to_sparse()


def test_qdrant_finds_the_largest_products(sparse):
    found, seconds = semantic_search_qdrant(sparse(QUERIES), sparse(CORPUS), top_k=5, location=":memory:")
    assert_hits(found, exact(QUERIES, CORPUS, 5))
    assert seconds > 0


def test_a_qdrant_collection_is_searched_again(sparse):
    first = semantic_search_qdrant(sparse(QUERIES), sparse(CORPUS), output_index=True, location=":memory:")
    hits, _, (client, name) = first
    assert name.startswith("sparse_collection_")
    assert client.count(name).count == len(CORPUS)
    assert semantic_search_qdrant(sparse(QUERIES), corpus_index=(client, name))[0] == hits
    one, _, index = semantic_search_qdrant(sparse(QUERIES[0]), corpus_index=(client, name), top_k=3, output_index=True)
    assert_hits(one, exact(QUERIES[:1], CORPUS, 3))
    assert index == (client, name)
    client.close()


def test_a_qdrant_folder_keeps_the_collection(sparse, tmp_path):
    qdrant = pytest.importorskip("qdrant_client")
    *_, (client, name) = semantic_search_qdrant(
        sparse(QUERIES), sparse(CORPUS), output_index=True, path=str(tmp_path / "db")
    )
    client.close()
    again = qdrant.QdrantClient(path=str(tmp_path / "db"))
    assert_hits(semantic_search_qdrant(sparse(QUERIES), corpus_index=(again, name))[0], exact(QUERIES, CORPUS, 10))
    again.close()


def test_qdrant_gets_a_corpus_in_rounds_and_queries_in_batches(sparse, monkeypatch):
    from fourfold.search.engines import qdrant

    monkeypatch.setattr(qdrant, "_ROWS_MADE", 33)
    monkeypatch.setattr(qdrant, "_QUERIES_SENT", 2)
    found, _ = semantic_search_qdrant(sparse(QUERIES), sparse(CORPUS), top_k=5, location=":memory:")
    assert_hits(found, exact(QUERIES, CORPUS, 5))


def test_a_qdrant_server_is_waited_for(sparse):
    many = np.concatenate([CORPUS] * 15)
    with QdrantServer() as server:
        found, _ = semantic_search_qdrant(sparse(QUERIES), sparse(CORPUS), top_k=5, url=server.url)
        semantic_search_qdrant(sparse(QUERIES), sparse(many), url=server.url)
    assert_hits(found, exact(QUERIES, CORPUS, 5))
    sent = [len(request.lines[0]["points"]) for request in server.requests if "/points?" in request.path]
    assert sent == [80, 1000, 200]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_qdrant_takes_every_precision_and_entries_that_add_up(sparse, dtype):
    torch = pytest.importorskip("torch")
    rows = sparse(CORPUS).to(getattr(torch, dtype))
    halves = torch.sparse_coo_tensor(
        torch.cat([rows.indices()] * 2, 1), torch.cat([rows.values() / 2] * 2), rows.shape, check_invariants=False
    )
    found, _ = semantic_search_qdrant(sparse(QUERIES), halves, top_k=3, location=":memory:")
    assert_hits(found, exact(QUERIES, rows.to_dense().float().numpy(), 3))


def test_what_qdrant_cannot_take_is_named(sparse):
    rows = sparse(CORPUS)
    for wrong in (rows.to_dense(), rows.to_sparse_csr(), CORPUS, [1.0]):
        with pytest.raises(InputError, match="query_embeddings must be a sparse COO tensor"):
            semantic_search_qdrant(wrong, rows, location=":memory:")
        with pytest.raises(InputError, match="corpus_embeddings must be a sparse COO tensor"):
            semantic_search_qdrant(rows, wrong, location=":memory:")
    with pytest.raises(InputError, match="give corpus_embeddings=, or corpus_index="):
        semantic_search_qdrant(rows)
    with pytest.raises(InputError, match="pair of QdrantClient and a name, got str"):
        semantic_search_qdrant(rows, corpus_index="sparse_collection")
    with pytest.raises(InputError, match="top_k must be at least 1, got 0"):
        semantic_search_qdrant(rows, rows, top_k=0, location=":memory:")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, {"url": "http://localhost:6333"}),
        ({"timeout": 3}, {"url": "http://localhost:6333", "timeout": 3}),
        ({"location": ":memory:"}, {"location": ":memory:"}),
        ({"host": "there", "port": 1}, {"host": "there", "port": 1}),
        ({"url": "http://there"}, {"url": "http://there"}),
    ],
    ids=["none", "timeout", "memory", "host", "url"],
)
def test_a_server_is_meant_unless_said_otherwise(sparse, monkeypatch, options, wanted):
    import qdrant_client

    got = []

    class Refuses:
        def __init__(self, **options):
            got.append(options)
            raise ConnectionError

    monkeypatch.setattr(qdrant_client, "QdrantClient", Refuses)
    with pytest.raises(ConnectionError):
        semantic_search_qdrant(sparse(QUERIES), sparse(CORPUS), **options)
    assert got == [wanted]


# -- Elasticsearch and OpenSearch, through their real clients --------------------------------------------------------


@both_servers
def test_a_server_is_filled_and_asked(server):
    function, _ = DECODED[server.kind]
    found, seconds, (client, name) = function(
        decoded(QUERIES), decoded(CORPUS), top_k=4, output_index=True, hosts=server.url
    )
    assert seconds > 0
    assert name.startswith("sparse_index_")
    assert len(server.indexes[name].docs) == len(CORPUS)
    assert [len(row) for row in found] == [4 if row.any() else 0 for row in QUERIES]
    if server.kind == "opensearch":
        assert_hits(found, exact(QUERIES, CORPUS, 4))
    assert all(row == sorted(row, key=lambda hit: -hit["score"]) for row in found)
    asked = len(server.requests)
    again, _ = function(decoded(QUERIES), corpus_index=(client, name), top_k=4)
    assert again == found
    assert {request.path.rpartition("/")[2] for request in server.requests[asked:]} == {"_search"}
    client.close()


def test_elasticsearch_saturates():
    pytest.importorskip("elasticsearch")
    with EngineServer("elasticsearch") as server:
        corpus = [[("a", 4.0), ("b", 1.0)], [("a", 1.0)], [("c", 1.0)]]
        found, _ = semantic_search_elasticsearch([[("a", 2.0), ("b", 1.0)]], corpus, hosts=server.url)
    # The pivot of "a" is 2, its geometric mean: 2 * 4/6 + 1/2 and 2 * 1/3.
    assert_hits(found, [[(0, 2 * 4 / 6 + 0.5), (1, 2 / 3)]])


@both_servers
def test_dots_go_where_the_server_takes_none(server):
    function, _ = DECODED[server.kind]
    found, _ = function([[("u.s.", 1.0)]], [[("u.s.", 2.0)], [("us", 1.0)]], hosts=server.url)
    assert [hit["corpus_id"] for hit in found[0]] == [0]
    [index] = server.indexes.values()
    assert list(index.docs["0"]["tokens"]) == (["u_s_"] if server.kind == "elasticsearch" else ["u.s."])


@both_servers
def test_large_corpora_go_in_bulks(server):
    function, _ = DECODED[server.kind]
    function([[("a", 1.0)]], [[("a", 1.0 + i)] for i in range(2300)], hosts=server.url)
    bulks = [len(request.lines) // 2 for request in server.requests if request.path.startswith("/_bulk")]
    assert bulks == [1000, 1000, 300]


@both_servers
def test_weights_of_zero_and_texts_of_nothing_are_no_trouble(server):
    function, _ = DECODED[server.kind]
    found, _ = function([[], [("a", 1.0), ("b", 0.0)]], [[], [("a", 0.5), ("b", 0.0)]], hosts=server.url)
    assert [[hit["corpus_id"] for hit in row] for row in found] == [[], [1]]
    assert sum("_search" in request.path for request in server.requests) == 1
    assert function([[("a", 1.0)]], [], hosts=server.url)[0] == [[]]
    assert function([], [[("a", 1.0)]], hosts=server.url)[0] == []


@both_servers
def test_what_a_server_refuses_is_named_before_it_is_asked(server):
    function, _ = DECODED[server.kind]
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=rf"query_embeddings_decoded\[0\] gives 'a' the weight {wrong}"):
            function([[("a", wrong)]], [[("a", 1.0)]], hosts=server.url)
        with pytest.raises(InputError, match=r"corpus_embeddings_decoded\[1\] gives 'a'"):
            function([[("a", 1.0)]], [[], [("a", wrong)]], hosts=server.url)
    assert server.requests == []


@both_servers
def test_a_client_that_nobody_gets_is_closed(server, monkeypatch):
    function, package = DECODED[server.kind]
    name = {"elasticsearch": "Elasticsearch", "opensearch": "OpenSearch"}[server.kind]
    client = getattr(sys.modules[package], name)
    closed = []
    original = client.close
    monkeypatch.setattr(client, "close", lambda self: (closed.append(self), original(self)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function([[("a", 1.0)]], [[("a", 1.0)]], hosts=server.url)
        assert len(closed) == 1
        *_, (kept, _) = function([[("a", 1.0)]], [[("a", 1.0)]], hosts=server.url, output_index=True)
    assert len(closed) == 1
    kept.close()


@both_servers
def test_an_index_that_is_gone_is_the_servers_error(server):
    function, _ = DECODED[server.kind]
    *_, (client, _) = function([[("a", 1.0)]], [[("a", 1.0)]], hosts=server.url, output_index=True)
    with pytest.raises(Exception, match="index_not_found"):
        function([[("a", 1.0)]], corpus_index=(client, "gone"))
    client.close()


# -- Seismic, for real -----------------------------------------------------------------------------------------------


def test_seismic_finds_the_largest_products():
    pytest.importorskip("seismic")
    everything = {"query_cut": 100, "heap_factor": 1.0}
    found, seconds, index = semantic_search_seismic(
        decoded(QUERIES), decoded(CORPUS), top_k=5, output_index=True, search_kwargs=everything
    )
    wanted = exact(QUERIES, CORPUS, 5)
    hits = [{hit["corpus_id"] for hit in row} for row in found]
    share = np.mean([len(got & {i for i, _ in row}) / len(row) for got, row in zip(hits, wanted, strict=True) if row])
    assert share >= 0.9  # approximate, by its nature
    for row, pairs in zip(found, wanted, strict=True):
        scores = dict(pairs)
        assert [hit["score"] for hit in row] == sorted((hit["score"] for hit in row), reverse=True)
        assert all(
            hit["score"] == pytest.approx(scores[hit["corpus_id"]], rel=2e-3)
            for hit in row
            if hit["corpus_id"] in scores
        )
    assert seconds > 0
    assert index.len == (CORPUS.any(1)).sum() or index.len == len(CORPUS)
    assert semantic_search_seismic(decoded(QUERIES), corpus_index=index, top_k=5, search_kwargs=everything)[0] == found


def test_seismic_has_nothing_for_nothing():
    pytest.importorskip("seismic")
    corpus = decoded(CORPUS)
    assert semantic_search_seismic([[("unknown", 1.0)], []], corpus)[0] == [[], []]
    assert semantic_search_seismic([[("t1", 1.0)]], [])[0] == [[]]
    assert semantic_search_seismic([[("t1", 1.0)]], [[], []])[0] == [[]]
    assert semantic_search_seismic([], corpus)[0] == []
    with pytest.raises(InputError, match="finite number"):
        semantic_search_seismic([[("a", float("nan"))]], corpus)


# -- what they share -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DECODED)
def test_decoded_embeddings_of_another_form_are_named(name):
    function, package = DECODED[name]
    pytest.importorskip(package)
    good = [[("a", 1.0)]]
    wrong = {
        "must be a list of lists of (token, weight), got str": "a",
        "must be a list of lists of (token, weight), got ndarray": CORPUS,
        "[0] must be a list of (token, weight), as decode gives it, got tuple": [("a", 1.0)],
        "[1] must hold tuples of a token and its weight, got ['a', 1.0]": [[], [["a", 1.0]]],
        "[0] must hold tuples of a token and its weight, got ('a', 'b')": [[("a", "b")]],
        "[0] must hold tuples of a token and its weight, got (1, 2.0)": [[(1, 2.0)]],
    }
    for text, given in wrong.items():
        for which, arguments in (("query", (given, good)), ("corpus", (good, given))):
            with pytest.raises(InputError) as caught:
                function(*arguments)
            separator = "" if text.startswith("[") else " "
            assert str(caught.value) == f"{which}_embeddings_decoded{separator}{text}"
    with pytest.raises(InputError, match="give corpus_embeddings_decoded=, or corpus_index="):
        function(good)
    with pytest.raises(InputError, match="top_k must be at least 1, got -1"):
        function(good, good, top_k=-1)


@pytest.mark.parametrize(
    ("name", "package", "line"),
    [
        ("qdrant", "qdrant_client", 'pip install "fourfold[search]"'),
        ("elasticsearch", "elasticsearch", 'pip install "fourfold[search]"'),
        ("opensearch", "opensearchpy", 'pip install "fourfold[search]"'),
        ("seismic", "seismic", "pip install pyseismic-lsr"),
    ],
)
def test_a_client_that_is_missing_is_named(monkeypatch, name, package, line):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked, *rest: None if asked == package else found(asked, *rest)
    )
    with pytest.raises(MissingExtraError) as caught:
        getattr(engines, f"semantic_search_{name}")([[("a", 1.0)]], [[("a", 1.0)]])
    assert line in str(caught.value)
    assert package in str(caught.value)


# -- with a model ----------------------------------------------------------------------------------------------------


@both_servers
def test_what_a_model_encodes_and_decodes_is_what_the_engines_take(server, sparse):
    from fourfold.testing import tiny

    model = tiny("sparse")
    texts = ["the quick brown fox", "a short text. of words", "jumps over the lazy dog", "long words", ""]
    corpus, queries = model.encode_document(texts, max_active_dims=20), model.encode_query(texts[:3], max_active_dims=9)
    best = model.similarity(queries, corpus).topk(2)
    wanted = [list(zip(*row, strict=True)) for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
    found, _ = semantic_search_qdrant(queries, corpus, top_k=2, location=":memory:")
    assert_hits(found, wanted)
    function, _ = DECODED[server.kind]
    found, _ = function(model.decode(queries), model.decode(corpus), top_k=2, hosts=server.url)
    assert [len(row) for row in found] == [2, 2, 2]
    if server.kind == "opensearch":
        assert_hits(found, wanted)
