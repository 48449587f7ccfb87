from collections import namedtuple

import torch

from fourfold.ops.device import batch_to_device, move, move_to_cpu

Pair = namedtuple("Pair", "first second")


def test_tensors_move_wherever_they_are():
    value = {"a": [torch.ones(2), (torch.zeros(1), "text")], "b": Pair(torch.ones(1), 3)}
    moved = move(value, "meta")
    assert moved["a"][0].is_meta
    assert moved["a"][1][0].is_meta
    assert moved["a"][1][1] == "text"
    assert isinstance(moved["b"], Pair)
    assert moved["b"].first.is_meta
    assert not value["a"][0].is_meta
    assert move_to_cpu(value)["b"] == value["b"]


def test_a_batch_is_changed_in_place():
    batch = {"input_ids": torch.ones(2), "texts": ["a"], "nested": [torch.ones(1)]}
    assert batch_to_device(batch, "meta") is batch
    assert batch["input_ids"].is_meta
    assert not batch["nested"][0].is_meta
