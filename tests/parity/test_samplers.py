"""Batches of rows beside the older library's: the same rows in the same order for the same seed."""

import logging

import pytest
import torch
from torch.utils.data import ConcatDataset

from fourfold.training import samplers as ours

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def theirs(st):
    from sentence_transformers.base import sampler

    return sampler


def rows(count, queries, labels=5):
    return datasets.Dataset.from_dict({
        "query": [f"q{(i * 7) % queries}" for i in range(count)],
        "text": [f"d{i % (count - 3)}" for i in range(count)],
        "label": [(i * i) % labels for i in range(count)],
    })  # fmt: skip


def batches(lib, name, dataset, size, drop_last, epoch, **options):
    sampler = getattr(lib, name)(
        dataset, size, drop_last, valid_label_columns=["label"], generator=torch.Generator(), seed=5, **options
    )
    sampler.set_epoch(epoch)
    return len(sampler), list(sampler)


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("count", "queries"), [(60, 60), (100, 30), (101, 12), (64, 9)])
@pytest.mark.parametrize("hashes", [False, True])
def test_no_duplicates(theirs, caplog, count, queries, drop_last, epoch, hashes):
    caplog.set_level(logging.ERROR)
    options = {"precompute_hashes": hashes, "precompute_num_proc": 1}
    found = [
        batches(lib, "NoDuplicatesBatchSampler", rows(count, queries), 8, drop_last, epoch, **options)
        for lib in (ours, theirs)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("epoch", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("count", "labels", "size"), [(60, 5, 8), (97, 11, 6), (30, 3, 4), (200, 40, 32)])
def test_group_by_label(theirs, count, labels, size, drop_last, epoch):
    dataset = rows(count, 10, labels)
    found = [batches(lib, "GroupByLabelBatchSampler", dataset, size, drop_last, epoch) for lib in (ours, theirs)]
    assert found[0][0] == found[1][0]
    assert list(map(len, found[0][1])) == list(map(len, found[1][1]))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["RoundRobinBatchSampler", "ProportionalBatchSampler"])
@pytest.mark.parametrize("inner", ["DefaultBatchSampler", "NoDuplicatesBatchSampler"])
@pytest.mark.parametrize("epoch", [0, 1])
def test_several_datasets(theirs, name, inner, epoch):
    found = []
    for lib in (ours, theirs):
        generator = torch.Generator()
        generator.manual_seed(5)
        parts = [rows(count, 40) for count in (40, 21, 33)]
        if inner == "DefaultBatchSampler":
            orders = [torch.utils.data.RandomSampler(part, generator=generator) for part in parts]
            made = [lib.DefaultBatchSampler(order, batch_size=4, drop_last=False) for order in orders]
        else:
            made = [getattr(lib, inner)(part, 4, False, generator=generator, seed=5) for part in parts]
        joined = getattr(lib, name)(ConcatDataset(parts), batch_samplers=made, generator=generator, seed=5)
        joined.set_epoch(epoch)
        found.append((len(joined), list(joined)))
    assert found[0] == found[1]


def test_the_same_values(theirs):
    for name in ("BatchSamplers", "MultiDatasetBatchSamplers"):
        assert {one.name: one.value for one in getattr(ours, name)} == {
            one.name: one.value for one in getattr(theirs, name)
        }
