"""Which rows make a batch: each row once, no value twice, two rows of a label, one dataset a batch."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import named
from torch.utils.data import ConcatDataset

from fourfold.errors import InputError
from fourfold.training._no_duplicates import key_of, one_pass
from fourfold.training.samplers import (
    DefaultBatchSampler,
    GroupByLabelBatchSampler,
    NoDuplicatesBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)

datasets = pytest.importorskip("datasets")


def looked_through(order, values, batch_size, drop_last):
    """The plain way: look through all rows that are left for every batch."""
    left = list(order)
    while left:
        batch, taken, rest = [], set(), []
        for row in left:
            if len(batch) < batch_size and not values[row] & taken:
                batch.append(row)
                taken |= values[row]
            else:
                rest.append(row)
        if len(batch) == batch_size or (batch and not drop_last):
            yield batch
        left = rest


@given(
    st.lists(st.sets(st.integers(0, 12), min_size=1, max_size=3), max_size=40),
    st.integers(1, 6),
    st.booleans(),
    st.randoms(use_true_random=False),
)
@settings(max_examples=300)
def test_a_pass_is_what_looking_through_all_rows_gives(values, batch_size, drop_last, random):
    order = list(range(len(values)))
    random.shuffle(order)
    got = list(one_pass(np.array(order, dtype=np.int32), values, batch_size, drop_last))
    assert got == list(looked_through(order, values, batch_size, drop_last))


@pytest.mark.parametrize("kind", ["all the same", "two values", "few queries", "apart"])
def test_rows_are_not_looked_at_again_and_again(kind):
    count = 3000
    rows = {
        "all the same": [{"x"}] * count,
        "two values": [{"a"} if i % 2 else {"b"} for i in range(count)],
        "few queries": [{f"q{i % 30}", f"d{i}"} for i in range(count)],
        "apart": [{i} for i in range(count)],
    }[kind]
    looked = Counter()

    class Counting(list):
        def __getitem__(self, row):
            looked[row] += 1
            return super().__getitem__(row)

    batches = list(one_pass(np.arange(count, dtype=np.int32), Counting(rows), 32, False))
    assert sorted(itertools.chain(*batches)) == list(range(count))
    assert sum(looked.values()) <= 3 * count


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a", "a", True), (1, "1", True), ([1, 2], [1, 2], True), ([1, 2], [2, 1], False),
        ({"a": [1]}, {"a": [1]}, True),
        ([["a"], ["b"]], [["a"], ["b"]], True), ([["a"], ["b"]], [["a"], ["c"]], False),
        (np.arange(3), np.arange(3), True), (np.arange(3), np.arange(1, 4), False), (key_of, one_pass, False),
    ],
    ids=named,
)  # fmt: skip
def test_what_is_the_same_value(one, other, same):
    assert (key_of(one) == key_of(other)) is same


def pairs(count, queries):
    rows = {"query": [f"q{i % queries}" for i in range(count)], "text": [f"d{i}" for i in range(count)]}
    return datasets.Dataset.from_dict({**rows, "label": [i % 2 for i in range(count)]})


def sampler(cls, dataset, batch_size, drop_last=False, seed=0, **options):
    return cls(
        dataset, batch_size, drop_last, valid_label_columns=["label"], generator=torch.Generator(), seed=seed, **options
    )


@pytest.mark.parametrize("hashes", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_no_duplicates(hashes, drop_last, caplog):
    dataset = pairs(100, 40)
    options = {"precompute_hashes": hashes, "precompute_num_proc": 1}
    made = sampler(NoDuplicatesBatchSampler, dataset, 8, drop_last, **options)
    batches = list(made)
    assert len(batches) == len(made) == (12 if drop_last else 13)
    for batch in batches:
        assert len({dataset[row]["query"] for row in batch}) == len(batch)
    again = list(made)
    assert again == batches
    made.set_epoch(1)
    assert list(made) != batches
    assert not caplog.messages


def test_hashes_make_the_same_batches():
    dataset = pairs(200, 30)
    batches = [
        list(sampler(NoDuplicatesBatchSampler, dataset, 16, precompute_hashes=hashes, precompute_num_proc=1))
        for hashes in (False, True)
    ]
    assert batches[0] == batches[1]


def test_rows_come_again_where_too_many_are_alike(caplog):
    made = sampler(NoDuplicatesBatchSampler, pairs(40, 4), 8, drop_last=True)
    assert list(made) == []
    assert "0 of 5" in caplog.text
    caplog.clear()
    some = sampler(NoDuplicatesBatchSampler, pairs(64, 9), 8, drop_last=True)
    batches = list(some)
    assert len(batches) <= len(some)
    assert "come again" in caplog.text


def test_labels_come_in_pairs():
    labels = [0] * 13 + [1] * 7 + [2] * 6 + [3]
    dataset = datasets.Dataset.from_dict({"text": [str(i) for i in range(len(labels))], "label": labels})
    for drop_last in (False, True):
        made = sampler(GroupByLabelBatchSampler, dataset, 6, drop_last)
        batches = list(made)
        assert len(batches) == len(made)
        for batch in batches:
            counts = Counter(labels[row] for row in batch)
            assert all(count % 2 == 0 for count in counts.values())
            assert len(counts) >= 2
        rows = [row for batch in batches for row in batch]
        assert len(rows) == len(set(rows))
        assert list(made) == batches
        made.set_epoch(3)
        assert list(made) != batches


@pytest.mark.parametrize(
    ("labels", "size", "said"),
    [([0, 0, 1, 1], 5, "even"), ([0, 0, 1, 1], 2, "at least 4"), ([0, 0, 1], 4, "2 labels"), (None, 4, "label column")],
)
def test_labels_that_make_no_batches(labels, size, said):
    rows = {"text": ["a", "b", "c", "d"][: len(labels or "abcd")]}
    dataset = datasets.Dataset.from_dict(rows if labels is None else {**rows, "label": labels})
    with pytest.raises(InputError, match=said):
        sampler(GroupByLabelBatchSampler, dataset, size)


def several(seed=0):
    parts = [pairs(count, count) for count in (20, 9, 13)]
    generator = torch.Generator()
    samplers = [DefaultBatchSampler(part, 4, False, generator=generator, seed=seed) for part in parts]
    return ConcatDataset(parts), samplers, generator


def test_datasets_take_turns():
    joined, samplers, generator = several()
    made = RoundRobinBatchSampler(joined, samplers, generator, 0)
    batches = list(made)
    assert len(batches) == len(made) == 9
    assert [owner(batch) for batch in batches] == [0, 1, 2] * 3


def owner(batch):
    found = {int(np.searchsorted([20, 29, 42], row, side="right")) for row in batch}
    assert len(found) == 1
    return found.pop()


def test_datasets_in_proportion():
    joined, samplers, generator = several()
    made = ProportionalBatchSampler(joined, samplers, generator, 0)
    batches = list(made)
    assert len(batches) == len(made) == 5 + 3 + 4
    assert sorted(row for batch in batches for row in batch) == list(range(42))
    assert Counter(map(owner, batches)) == {0: 5, 1: 3, 2: 4}
    made.set_epoch(2)
    assert list(made) != batches
    assert all(one.epoch == 2 for one in samplers)


def test_a_sampler_a_dataset():
    joined, samplers, generator = several()
    with pytest.raises(InputError, match="3 datasets"):
        ProportionalBatchSampler(joined, samplers[:2], generator, 0)
