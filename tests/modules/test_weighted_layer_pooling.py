import pytest
import torch

from fourfold.errors import InputError, ShapeError
from fourfold.modules import WeightedLayerPooling

LAYERS = tuple(torch.full((1, 2, 4), value) for value in (100.0, 1.0, 2.0, 4.0))


def test_it_is_the_mean_of_the_layers_from_the_first_that_counts():
    module = WeightedLayerPooling(4, num_hidden_layers=3, layer_start=1)
    out = module({"all_layer_embeddings": LAYERS})["token_embeddings"]
    torch.testing.assert_close(out, torch.full((1, 2, 4), 7 / 3))


@pytest.mark.parametrize(
    "weights", [[1.0, 2.0, 1.0], torch.tensor([1, 2, 1]), torch.nn.Parameter(torch.tensor([1.0, 2, 1]))]
)
def test_weights_of_any_form_are_trained(weights):
    module = WeightedLayerPooling(4, 3, 1, weights)
    assert [key for key, _ in module.named_parameters()] == ["layer_weights"]
    assert module({"all_layer_embeddings": LAYERS})["token_embeddings"][0, 0, 0] == 2.25
    if isinstance(weights, torch.nn.Parameter):
        assert module.layer_weights is weights


def test_without_layers_it_does_nothing():
    assert WeightedLayerPooling(4)({"x": 1}) == {"x": 1}


def test_half_precision_is_summed_in_single():
    many = tuple(torch.full((1, 1, 1), value, dtype=torch.float16) for value in (60000.0, 60000.0))
    module = WeightedLayerPooling(1, 1, 0).half()
    assert module({"all_layer_embeddings": many})["token_embeddings"].item() == 60000.0


def test_another_number_of_layers_is_an_error_that_names_both():
    with pytest.raises(ShapeError, match="num_hidden_layers=12, the transformer before it returned 3 layers"):
        WeightedLayerPooling(4)({"all_layer_embeddings": LAYERS})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer_start": 13}, "layer_start must be from 0 to num_hidden_layers=12"),
        ({"layer_start": -1}, "layer_start must be from 0"),
        ({"layer_weights": [1.0]}, "one number for each of the 9 layers from 4 to 12"),
    ],
)
def test_layers_that_do_not_fit_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        WeightedLayerPooling(4, **options)
