import numpy as np
import pytest
import torch

from fourfold.errors import InputError
from fourfold.testing import ARCHITECTURES, checkpoint, tiny, tiny_folder


@pytest.mark.parametrize("name", ["bert", "static"])
def test_a_seed_gives_one_model(name):
    first, same, other = tiny("dense", name), tiny("dense", name), tiny("dense", name, seed=1)
    np.testing.assert_array_equal(first.encode("the text"), same.encode("the text"))
    assert np.abs(first.encode("the text") - other.encode("the text")).max() > 1e-3


def test_the_state_of_random_numbers_is_not_touched(tmp_path):
    torch.manual_seed(5)
    want = torch.randn(3)
    torch.manual_seed(5)
    checkpoint("bert", tmp_path)
    tiny("dense", "static")
    assert torch.equal(torch.randn(3), want)


def test_folders_are_made_once():
    assert tiny_folder() == tiny_folder()
    assert (tiny_folder() / "modules.json").exists()


def test_options_reach_the_class():
    assert tiny(truncate_dim=3).encode("a").shape == (3,)


def test_wrong_names_are_refused(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'bert'"):
        checkpoint("bertt", tmp_path)
    with pytest.raises(InputError, match="kind must be"):
        tiny("nothing")
    assert "bert" in ARCHITECTURES
