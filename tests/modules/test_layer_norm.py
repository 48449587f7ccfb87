import pytest
import torch
from tests.tolerances import FORMULA

from fourfold.errors import InputError, MissingFeatureError
from fourfold.modules import LayerNorm


def test_vectors_get_mean_nought_and_variance_one():
    out = LayerNorm(4)({"sentence_embedding": torch.tensor([[1.0, 2.0, 3.0, 6.0]])})["sentence_embedding"]
    want = torch.tensor([[-2.0, -1.0, 0.0, 3.0]]) / (3.5 + 1e-5) ** 0.5
    torch.testing.assert_close(out, want, atol=FORMULA, rtol=0)


def test_scale_and_shift_are_trained():
    module = LayerNorm(2)
    assert {key: tuple(p.shape) for key, p in module.named_parameters()} == {"norm.weight": (2,), "norm.bias": (2,)}
    with torch.no_grad():
        module.norm.weight.copy_(torch.tensor([2.0, 3.0]))
        module.norm.bias.copy_(torch.tensor([5.0, 7.0]))
    out = module({"sentence_embedding": torch.tensor([[-1.0, 1.0]])})["sentence_embedding"]
    torch.testing.assert_close(out, torch.tensor([[3.0, 10.0]]), atol=1e-4, rtol=0)
    assert module.get_embedding_dimension() == 2


@pytest.mark.parametrize("width", [0, -1, "8", 1.5])
def test_a_width_that_is_none_is_refused(width):
    with pytest.raises(InputError, match="dimension must be a positive number"):
        LayerNorm(width)


def test_without_a_vector_it_says_what_it_reads():
    with pytest.raises(MissingFeatureError, match="LayerNorm reads the feature 'sentence_embedding'"):
        LayerNorm(2)({"token_embeddings": torch.ones(1, 1, 2)})
