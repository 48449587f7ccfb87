import pytest
import torch
from tests.tolerances import FORMULA_LARGE

from fourfold.ops.similarity import cos_sim, dot_score
from fourfold.search import paraphrases
from fourfold.search.paraphrases import paraphrase_mining, paraphrase_mining_embeddings
from fourfold.testing import tiny


@pytest.fixture(scope="module")
def vectors():
    return torch.randn(60, 8, generator=torch.Generator().manual_seed(2))


def all_pairs(vectors, score):
    scores = score(vectors, vectors)
    pairs = [(float(scores[i, j]), i, j) for i in range(len(vectors)) for j in range(i + 1, len(vectors))]
    return sorted(pairs, key=lambda pair: -pair[0])


@pytest.mark.parametrize("score", [cos_sim, dot_score])
@pytest.mark.parametrize("options", [{}, {"query_chunk_size": 7, "corpus_chunk_size": 11}, {"max_pairs": 25}])
def test_all_pairs_are_found_best_first(vectors, score, options):
    found = paraphrase_mining_embeddings(vectors, score_function=score, **options)
    wanted = all_pairs(vectors, score)[: options.get("max_pairs")]
    # Pairs may change places where their scores differ by a rounding.
    assert {tuple(row[1:]) for row in found} == {pair[1:] for pair in wanted}
    assert all(abs(row[0] - pair[0]) < FORMULA_LARGE for row, pair in zip(found, wanted, strict=True))
    assert [row[0] for row in found] == sorted((row[0] for row in found), reverse=True)


def test_each_row_brings_its_nearest_partners_only(vectors):
    found = {(i, j) for _, i, j in paraphrase_mining_embeddings(vectors, top_k=2)}
    scores = cos_sim(vectors, vectors).fill_diagonal_(-2)
    wanted = {tuple(sorted((i, int(j)))) for i, row in enumerate(scores) for j in row.topk(2).indices}
    assert found == wanted


def test_copies_do_not_crowd_each_other_out():
    found = paraphrase_mining_embeddings(torch.ones(5, 3), top_k=2)
    assert all(i < j for _, i, j in found)
    assert len({(i, j) for _, i, j in found}) == len(found) >= 5


def test_blocks_shrink_where_memory_asks_for_it(vectors, monkeypatch):
    whole = paraphrase_mining_embeddings(vectors)
    monkeypatch.setattr(paraphrases, "_MOST_SCORES", 100)
    assert sorted(row[1:] for row in paraphrase_mining_embeddings(vectors)) == sorted(row[1:] for row in whole)


def test_nothing_and_one_have_no_pairs():
    assert paraphrase_mining_embeddings(torch.ones(1, 3)) == []
    assert paraphrase_mining_embeddings(torch.ones(0, 3)) == []


def test_texts_are_encoded_first():
    model = tiny("dense", prompts={"query": "query: "})
    texts = ["a short text", "a short text", "the world"]
    assert paraphrase_mining(model, texts, prompt_name="query", truncate_dim=9)[0][1:] == [0, 1]
