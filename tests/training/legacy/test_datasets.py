"""Datasets of the older interface: what comes, how often, and in which company."""

import logging
import pickle
import random
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fourfold.errors import InputError, MissingExtraError
from fourfold.text.example import InputExample
from fourfold.training.legacy import denoising
from fourfold.training.legacy.denoising import DenoisingAutoEncoderDataset, delete
from fourfold.training.legacy.no_duplicates_loader import NoDuplicatesDataLoader
from fourfold.training.legacy.parallel_sentences import ParallelSentencesDataset
from fourfold.training.legacy.sentence_label import SentenceLabelDataset
from fourfold.training.legacy.sentences import SentencesDataset


def examples(texts, labels=None):
    labels = range(len(texts)) if labels is None else labels
    return [InputExample(texts=[text], label=label) for text, label in zip(texts, labels, strict=True)]


def first_texts(batch):
    return [example.texts[0] for example in batch]


class Teacher:
    """Embeds a text as its length, and remembers what it was asked."""

    def __init__(self):
        self.calls = []

    def encode(self, texts, batch_size, show_progress_bar, convert_to_numpy):
        assert (show_progress_bar, convert_to_numpy) == (False, True)
        self.calls.append((list(texts), batch_size))
        return np.array([[len(text)] for text in texts], dtype=np.float32)


def test_a_list_of_examples():
    made = examples("abc")
    dataset = SentencesDataset(made, model=None)
    assert list(DataLoader(dataset, batch_size=2, collate_fn=list)) == [made[:2], made[2:]]


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 4), st.booleans())
@settings(max_examples=100, deadline=None)
def test_groups_of_one_label(labels, size, with_replacement):
    counts = Counter(labels)
    usable = sum(count for count in counts.values() if count >= size)
    dataset = SentenceLabelDataset(examples(range(len(labels)), labels), size, with_replacement)
    assert len(dataset) == usable
    for _ in range(2):
        given_out = list(dataset)
        assert len(given_out) == -(-usable // size) * size
        groups = [given_out[start : start + size] for start in range(0, len(given_out), size)]
        for group in groups:
            assert len({example.label for example in group}) == 1
            assert len({example.texts[0] for example in group}) == size
        many = len({label for label, count in counts.items() if count >= size})
        for start in range(0, len(groups), many or 1):
            of_a_round = [group[0].label for group in groups[start : start + many]]
            assert len(set(of_a_round)) == len(of_a_round)


def test_groups_are_drawn_by_the_seed_and_change():
    def drawn():
        np.random.seed(0)  # noqa: NPY002
        dataset = SentenceLabelDataset(examples(range(40), [number % 4 for number in range(40)]))
        return [first_texts(dataset) for _ in range(2)]

    assert drawn() == drawn()
    assert drawn()[0] != drawn()[1]
    batches = DataLoader(SentenceLabelDataset(examples("abcd", [0, 0, 1, 1])), batch_size=4, collate_fn=list)
    assert [sorted(first_texts(batch)) for batch in batches] == [list("abcd")]
    with pytest.raises(InputError, match="samples_per_label"):
        SentenceLabelDataset([], samples_per_label=0)


@given(st.lists(st.sampled_from("abcdefgABC "), min_size=4, max_size=30), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_no_text_twice_in_a_batch(texts, size):
    made = examples(texts)
    loader = NoDuplicatesDataLoader(made, size)
    assert loader.train_examples is made
    assert len(loader) == len(texts) // size
    possible = len({text.strip().lower() for text in texts}) >= size
    for _ in range(2 if possible else 0):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert all(len({text.strip().lower() for text in first_texts(batch)}) == size for batch in batches)
    if not possible:
        with pytest.raises(InputError, match="Take a smaller batch_size"):
            list(loader)
    assert sorted(first_texts(made)) == sorted(texts)


def test_different_texts_come_once_a_pass():
    loader = NoDuplicatesDataLoader(examples([str(number) for number in range(12)]), 4)
    passes = [[text for batch in loader for text in first_texts(batch)] for _ in range(3)]
    assert all(sorted(texts, key=int) == [str(number) for number in range(12)] for texts in passes)
    assert len({tuple(texts) for texts in passes}) == 3
    loader.collate_fn = len
    assert list(loader) == [4, 4, 4]
    assert list(NoDuplicatesDataLoader(examples("ab"), 3)) == []
    with pytest.raises(InputError, match="batch_size"):
        NoDuplicatesDataLoader([], 0)


def test_an_example_may_repeat_its_own_text():
    pair = InputExample(texts=["a", "A "])
    batches = list(NoDuplicatesDataLoader([pair, InputExample(texts=["b"]), InputExample(texts=["b", "a"])], 1))
    assert len(batches) == 3


def test_translations_get_the_embedding_of_their_source():
    teacher = Teacher()
    dataset = ParallelSentencesDataset(None, teacher, batch_size=3)
    dataset.add_dataset([["one", "uno", "eins"], ["three", "tres"], ["one", "un", "uno"]], weight=2)
    assert len(dataset) == 6
    found = {example.texts[0]: example.label.tolist() for example in (dataset[0] for _ in range(6))}
    assert found == {"one": [3], "uno": [3], "eins": [3], "un": [3], "three": [5], "tres": [5]}
    assert teacher.calls == [(["one", "three"], 3)]
    assert list(dataset.embedding_cache) == ["one", "three"]
    for _ in range(6):
        assert dataset[5].texts[0] in found
    assert len(teacher.calls) == 1


def test_embeddings_that_are_not_kept():
    teacher = Teacher()
    dataset = ParallelSentencesDataset(None, teacher, use_embedding_cache=False)
    dataset.add_dataset([["one", "uno"]], weight=3)
    for _ in range(12):
        dataset[0]
    assert teacher.calls == [(["one"], 8)] * 2
    assert not dataset.embedding_cache


def test_datasets_take_turns_by_weight():
    dataset = ParallelSentencesDataset(None, Teacher())
    for name, weight in (("a", 3), ("b", 1)):
        dataset.add_dataset([[f"{name}{number}", f"{name}{number}!"] for number in range(10)], weight=weight)
    for _ in range(10):
        assert Counter(dataset[0].texts[0][0] for _ in range(8)) == {"a": 6, "b": 2}
    sizes = [len(batch) for batch in DataLoader(dataset, batch_size=16, collate_fn=list)]
    assert sizes == [16, 16, 8]


def test_every_source_comes_before_one_comes_again():
    dataset = ParallelSentencesDataset(None, Teacher())
    dataset.add_dataset([[str(number)] for number in range(7)], weight=7)
    rounds = [[dataset[0].texts[0] for _ in range(7)] for _ in range(4)]
    assert all(sorted(texts) == list("0123456") for texts in rounds)


def test_rows_that_are_taken(tmp_path):
    rows = [["x" * 129, "long"], ["a", "1"], ["a", "2"], ["b", "y" * 129], ["b", "3"], ["c", "4", "4"]]

    def taken(add, **options):
        dataset = ParallelSentencesDataset(None, Teacher())
        add(dataset, **options)
        assert len(dataset) == sum(len(texts) for part in dataset.datasets for _, texts in part)
        return dict(dataset.datasets[0]) if dataset.datasets else {}

    def from_list(dataset, **options):
        dataset.add_dataset(rows, **options)

    def from_file(dataset, **options):
        path = tmp_path / "rows.tsv"
        path.write_text("\n".join(map("\t".join, rows)))
        dataset.load_data(path, **options)

    everything = {"a": ["a", "1", "2"], "b": ["b", "3"], "c": ["c", "4"]}
    for add in (from_list, from_file):
        assert taken(add) == everything
        assert len(taken(add, max_sentence_length=None)) == 4
        assert taken(add, max_sentences=0) == everything
    # Of a list so many sources are taken, of a file so many lines.
    assert taken(from_list, max_sentences=2) == {"a": ["a", "1", "2"], "b": ["b", "3"]}
    assert taken(from_file, max_sentences=2) == {"a": ["a", "1", "2"]}
    assert taken(from_list, max_sentence_length=0)["b"] == ["b", "y" * 129, "3"]


def test_no_translations(tmp_path):
    dataset = ParallelSentencesDataset(None, Teacher())
    dataset.add_dataset([])
    dataset.add_dataset([["a", "b"]], weight=0)
    with pytest.raises(InputError, match="add_dataset"):
        dataset[0]
    with pytest.raises(InputError, match=r"row 1 .* is empty"):
        dataset.add_dataset([["a"], []])
    with pytest.raises(InputError, match="cannot be read"):
        dataset.load_data(tmp_path / "absent.tsv.gz")
    assert len(dataset) == 2


@given(st.text(alphabet="ab .,'", max_size=20), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_words_are_dropped_and_one_stays(text, ratio):
    pytest.importorskip("nltk")
    left = delete(text, ratio)
    assert bool(left.strip()) == bool(text.strip())
    if not text.strip():
        assert left == text


def test_the_share_of_words_that_stay():
    pytest.importorskip("nltk")
    np.random.seed(0)  # noqa: NPY002
    text = " ".join(f"w{number}" for number in range(2000))
    for ratio in (0.2, 0.6):
        left = delete(text, ratio).split()
        assert len(left) / 2000 == pytest.approx(1 - ratio, abs=0.05)
        assert left == sorted(left, key=lambda word: int(word[1:]))
    assert delete(text, 0) == text
    assert len(delete(text, 1).split()) == 1


def test_damaged_texts(monkeypatch):
    pytest.importorskip("nltk")
    texts = ["one two three four", "five"]
    dataset = DenoisingAutoEncoderDataset(texts)
    assert len(dataset) == 2
    assert dataset[1].texts == ["five", "five"]
    assert len({dataset[0].texts[0] for _ in range(50)}) > 1
    assert DenoisingAutoEncoderDataset.delete is delete
    assert pickle.loads(pickle.dumps(dataset)).noise_fn is delete  # workers of a DataLoader get a copy
    assert DenoisingAutoEncoderDataset(texts, noise_fn=str.title)[1].texts == ["Five", "five"]
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for build in (lambda: DenoisingAutoEncoderDataset(texts, noise_fn=str.title), lambda: delete("a b")):
        with pytest.raises(MissingExtraError, match=r"fourfold\[words\]"):
            build()


def test_data_for_sentences_is_looked_for_once(monkeypatch, caplog):
    nltk = pytest.importorskip("nltk")
    asked = []

    def word_tokenize(text, preserve_line=False):
        asked.append(preserve_line)
        if not preserve_line:
            raise LookupError("punkt_tab")
        return text.split()

    monkeypatch.setattr(nltk, "word_tokenize", word_tokenize)
    monkeypatch.setattr("fourfold.notices._said", set())
    denoising._finds_sentences.cache_clear()
    caplog.set_level(logging.WARNING, logger="fourfold")
    try:
        assert [delete("a b", 0) for _ in range(3)] == ["a b"] * 3
    finally:
        denoising._finds_sentences.cache_clear()
    assert asked == [False, True, True, True]
    assert len(caplog.messages) == 1
    assert "punkt_tab" in caplog.text


def test_nothing_draws_from_the_generator_of_torch():
    state = torch.get_rng_state()
    random.seed(0)
    list(NoDuplicatesDataLoader(examples("abcd"), 2))
    list(SentenceLabelDataset(examples("abcd", [0, 0, 1, 1])))
    assert torch.equal(state, torch.get_rng_state())
