"""The search engines get what the older library sends them, and give what it gives."""

import inspect

import numpy as np
import pytest
import torch
from tests.engine_server import EngineServer
from tests.tolerances import FORMULA_LARGE

from fourfold.search import engines as ours

WIDTH = 80
CLIENTS = {"elasticsearch": ("elasticsearch", "Elasticsearch"), "opensearch": ("opensearchpy", "OpenSearch")}


def rows(count, seed):
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(count, WIDTH, generator=generator) < 0.1
    return torch.where(chosen, torch.rand(count, WIDTH, generator=generator) + 0.05, torch.zeros(())).to_sparse()


def decoded(vectors):
    """Return tokens and weights as decode does, heaviest first; some tokens have a dot."""
    texts = []
    for vector in vectors.to_dense():
        terms = [i for i in vector.argsort(descending=True).tolist() if vector[i]]
        texts.append([(f"t{i}" if i % 7 else f"t.{i}", vector[i].item()) for i in terms])
    return texts


CORPUS, QUERIES = rows(120, 0), rows(9, 1)


@pytest.fixture(scope="module")
def theirs(st):
    from sentence_transformers.sparse_encoder import search_engines

    return search_engines


def assert_same(mine, wanted, atol=FORMULA_LARGE):
    assert len(mine) == len(wanted)
    assert isinstance(mine[1], float)
    for row, other in zip(mine[0], wanted[0], strict=True):
        assert [hit["corpus_id"] for hit in row] == [hit["corpus_id"] for hit in other]
        assert [list(hit) for hit in row] == [list(hit) for hit in other]
        np.testing.assert_allclose([hit["score"] for hit in row], [hit["score"] for hit in other], atol=atol)


@pytest.mark.parametrize("name", ours.__all__)
def test_signatures(theirs, name):
    mine, wanted = (inspect.signature(getattr(module, name)).parameters for module in (ours, theirs))
    assert [(p.name, p.default, p.kind) for p in mine.values()] == [
        (p.name, p.default, p.kind) for p in wanted.values()
    ]


@pytest.fixture
def local_qdrant(monkeypatch):
    """Let the older library, which always names a server, use Qdrant within the process."""
    qdrant = pytest.importorskip("qdrant_client")

    class Local(qdrant.QdrantClient):
        def __init__(self, url=None, **options):
            super().__init__(**{"location": ":memory:", **options})

    monkeypatch.setattr(qdrant, "QdrantClient", Local)


def test_qdrant(theirs, local_qdrant):
    for corpus, queries in ((CORPUS, QUERIES), (CORPUS.half(), QUERIES.bfloat16()), (CORPUS, QUERIES[0])):
        for top_k in (1, 10, 200):
            wanted = theirs.semantic_search_qdrant(queries, corpus, top_k=top_k)
            assert_same(ours.semantic_search_qdrant(queries, corpus, top_k=top_k, location=":memory:"), wanted)
            assert_same(ours.semantic_search_qdrant(queries, corpus, top_k=top_k), wanted)


def test_qdrant_collections_are_the_same_for_both(theirs, local_qdrant):
    made = [module.semantic_search_qdrant(QUERIES, CORPUS, output_index=True) for module in (ours, theirs)]
    assert_same(*made)
    configs = []
    for *_, (client, name) in made:
        assert client.count(name).count == len(CORPUS)
        assert name.startswith("sparse_collection_")
        assert len(name) == len(made[0][2][1])
        configs.append(client.get_collection(name).config.params.model_dump())
    assert configs[0] == configs[1]
    for module, (*_, index) in ((theirs, made[0]), (ours, made[1])):  # each searches the other's
        assert_same(module.semantic_search_qdrant(QUERIES, corpus_index=index), made[0][:2])


def test_errors_are_of_one_type(theirs, local_qdrant):
    good = [[("a", 1.0)]]
    for module in (ours, theirs):
        for queries, corpus in ((QUERIES.to_dense(), CORPUS), (QUERIES, CORPUS.to_dense()), (QUERIES, None)):
            with pytest.raises(ValueError):
                module.semantic_search_qdrant(queries, corpus)
        for name in ("elasticsearch", "opensearch", "seismic"):
            pytest.importorskip(CLIENTS.get(name, (name,))[0])
            for wrong in ("a", [["a"]], [("a", 1.0)], [[["a", 1.0]]], {}):
                with pytest.raises(ValueError):
                    getattr(module, f"semantic_search_{name}")(wrong, good)
            with pytest.raises(ValueError):
                getattr(module, f"semantic_search_{name}")(good)


def asked(server, name):
    """Return what a server was asked, with one name for every index, and documents without their order of bulks."""
    requests, docs = [], []
    for request in server.requests:
        path = request.path.replace(name, "INDEX")
        if path.startswith("/_bulk"):
            docs += request.lines
            continue
        for body in request.lines:
            body.pop("_source", None)  # ours wants no documents back, which no hit needs
        requests.append((request.method, path, request.lines))
    for action in docs[::2]:
        assert action["index"].pop("_index") == name
    return requests, docs


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("top_k", [1, 10, 500])
def test_servers_are_asked_the_same(theirs, monkeypatch, kind, top_k):
    package, class_name = CLIENTS[kind]
    module = pytest.importorskip(package)
    client_class = getattr(module, class_name)
    corpus = decoded(CORPUS) * 11  # more than a bulk holds
    corpus[3] = []
    # A query without tokens is another matter, see below.
    queries = [text for text in decoded(QUERIES) if text]
    name = f"semantic_search_{kind}"
    with EngineServer(kind) as mine, EngineServer(kind) as other:
        answers = [getattr(ours, name)(queries, corpus, top_k=top_k, output_index=True, hosts=mine.url)]

        class Redirected(client_class):  # the older library takes no other address
            def __init__(self, *hosts, **options):
                super().__init__(*([other.url] if hosts else []), **options)

        monkeypatch.setattr(module, class_name, Redirected)
        answers.append(getattr(theirs, name)(queries, corpus, top_k=top_k, output_index=True))
        assert_same(*answers)
        first, second = (asked(server, answer[2][1]) for server, answer in zip((mine, other), answers, strict=True))
        assert first == second
        assert len(first[1]) == 2 * len(corpus)
        # Each searches the other's index.
        (*_, index), (*_, other_index) = answers
        found = getattr(ours, name)(queries[:3], corpus_index=other_index, top_k=top_k)
        assert_same(found, getattr(theirs, name)(queries[:3], corpus_index=index, top_k=top_k))
        for client, _ in (index, other_index):
            client.close()


def test_a_query_without_tokens_has_no_hits(theirs, monkeypatch):
    # Of Elasticsearch the older library then gets any documents, of OpenSearch an error.
    for kind, (package, _) in CLIENTS.items():
        pytest.importorskip(package)
        with EngineServer(kind) as server:
            found = getattr(ours, f"semantic_search_{kind}")([[]], [[("a", 1.0)]], hosts=server.url, output_index=True)
            assert found[0] == [[]]
            *_, index = found
            if kind == "elasticsearch":
                assert len(theirs.semantic_search_elasticsearch([[]], corpus_index=index)[0][0]) == 1
            else:
                with pytest.raises(Exception, match="positive weights"):
                    theirs.semantic_search_opensearch([[]], corpus_index=index)
            index[0].close()


@pytest.mark.parametrize("options", [{}, {"query_cut": 3}, {"query_cut": 100, "heap_factor": 1.0}], ids=str)
def test_seismic(theirs, options):
    pytest.importorskip("seismic")
    queries, corpus = decoded(QUERIES), decoded(CORPUS)
    queries[2] = [("unknown", 1.0)]
    wanted = theirs.semantic_search_seismic(queries, corpus, output_index=True, search_kwargs=options)
    *_, index = wanted
    assert_same(ours.semantic_search_seismic(queries, corpus_index=index, search_kwargs=options), wanted[:2])
    mine = ours.semantic_search_seismic(queries, corpus, output_index=True, search_kwargs=options)
    assert_same(theirs.semantic_search_seismic(queries, corpus_index=mine[2], search_kwargs=options), mine[:2])
    assert mine[2].len == index.len
    assert mine[2].dim == index.dim
    assert [len(row) for row in mine[0]][2] == 0
