import pytest
import torch

from fourfold.ops.padded import (
    cat_padded_token_embeddings,
    repad_flattened_features,
    stack_padded_token_embeddings,
)


@pytest.fixture
def columns():
    return [torch.randn(2, length, 3) for length in (4, 1, 6)], [torch.ones(2, n, dtype=torch.long) for n in (4, 1, 6)]


def test_columns_are_filled_up_on_the_right(columns):
    embeddings, masks = columns
    stacked, mask = stack_padded_token_embeddings(embeddings, masks)
    assert stacked.shape == (2, 3, 6, 3)
    assert mask.sum(dim=2).tolist() == [[4, 1, 6]] * 2
    below, long_mask = cat_padded_token_embeddings(embeddings, masks)
    assert below.shape == (6, 6, 3)
    for position, (vectors, own) in enumerate(zip(embeddings, masks, strict=True)):
        length = vectors.shape[1]
        assert torch.equal(stacked[:, position, :length], vectors)
        assert not stacked[:, position, length:].any()
        assert torch.equal(below[2 * position : 2 * position + 2, :length], vectors)
        assert torch.equal(long_mask[2 * position : 2 * position + 2, :length], own)


def test_a_packed_batch_becomes_a_rectangle():
    vectors = torch.randn(1, 6, 2)
    features = {
        "token_embeddings": vectors, "input_ids": torch.arange(1, 7)[None], "position_ids": torch.zeros(1, 6),
        "cu_seq_lens_q": torch.tensor([0, 1, 4, 6]), "max_length_q": 3, "other": "kept",
    }  # fmt: skip
    assert repad_flattened_features(features) is features
    assert features["input_ids"].tolist() == [[1, 0, 0], [2, 3, 4], [5, 6, 0]]
    assert features["attention_mask"].tolist() == [[True, False, False], [True] * 3, [True, True, False]]
    assert torch.equal(features["token_embeddings"][features["attention_mask"]], vectors[0])
    assert features.keys() == {"token_embeddings", "input_ids", "attention_mask", "other"}
