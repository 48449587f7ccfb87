"""Retrieve, then rerank."""

import pytest

from fourfold.errors import InputError
from fourfold.search import Index
from fourfold.search.pipeline import Pipeline

TEXTS = {
    "apples.txt": "apples are red fruit",
    "pears.txt": "pears are green fruit, as some apples are",
    "copies.txt": "apples are red fruit",
    "cars.txt": "cars are fast",
}


class Backwards:
    """Likes short passages, and tells what it was asked."""

    num_labels = 1

    def __init__(self):
        self.asked = []

    def predict(self, inputs, **options):
        self.asked = list(inputs)
        return [-len(document) for _, document in inputs]


@pytest.fixture
def index(tmp_path):
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    index = Index(tmp_path)
    index.update(vectors=False)
    return index


def test_without_a_reranker_it_is_the_search(index):
    hits = Pipeline([index], mode="lexical").search("red apples", top_k=5)
    assert hits[0].text == "apples are red fruit"
    assert len({hit.text for hit in hits}) == len(hits)
    assert hits[0].score == index.search("red apples", mode="lexical")[0].score


def test_the_best_are_scored_anew_and_sorted(index):
    model = Backwards()
    hits = Pipeline([index], model, mode="lexical").search("fruit apples", top_k=5)
    assert [hit.score for hit in hits] == sorted((float(-len(document)) for _, document in model.asked), reverse=True)
    assert {query for query, _ in model.asked} == {"fruit apples"}
    assert len(model.asked) == 2  # copies are asked about once, and what was not found is not


def test_only_so_many_are_asked_about(index):
    model = Backwards()
    hits = Pipeline([index], model, rerank_top=1, mode="lexical").search("fruit", top_k=5)
    assert len(hits) == len(model.asked) == 1


def test_headings_are_read_too(tmp_path):
    (tmp_path / "page.md").write_text("# Fruit\n\n## Apples\n\nThey are red.\n")
    index = Index(tmp_path)
    index.update(vectors=False)
    model = Backwards()
    Pipeline([index], model, mode="lexical").search("red", top_k=1)
    assert "Apples" in model.asked[0][1]
    assert model.asked[0][1].endswith("They are red.")


def test_nothing_found_asks_nothing(index):
    model = Backwards()
    assert Pipeline([index], model, mode="lexical").search("zebra") == []
    assert model.asked == []


def test_what_is_refused(index):
    model = Backwards()
    model.num_labels = 3
    for arguments, said in (
        (([index], model), "3 labels"),
        (([],), "at least one index"),
        (([index], None, 0), "rerank_top"),
    ):
        with pytest.raises(InputError, match=said):
            Pipeline(*arguments)
    with pytest.raises(InputError, match="question"):
        Pipeline([index]).search(" ")
    with pytest.raises(InputError, match="top_k"):
        Pipeline([index]).search("a", top_k=0)
