import pytest
import torch

from fourfold.errors import InputError
from fourfold.modules import Dropout


def test_it_does_nothing_but_in_training():
    vectors = torch.randn(3, 8)
    assert Dropout(0.9).eval()({"sentence_embedding": vectors})["sentence_embedding"] is vectors


def test_in_training_some_features_are_nought_and_the_others_larger():
    torch.manual_seed(0)
    out = Dropout(0.25).train()({"sentence_embedding": torch.ones(100, 100)})["sentence_embedding"]
    assert sorted(out.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert 0.2 < (out == 0).float().mean() < 0.3


def test_the_default_and_its_file(tmp_path):
    Dropout().save(str(tmp_path))
    assert (tmp_path / "config.json").read_text() == '{\n    "dropout": 0.2\n}'
    assert isinstance(Dropout().dropout_layer, torch.nn.Dropout)


@pytest.mark.parametrize("dropout", [-0.1, 1.1, "a", None])
def test_what_is_no_probability_is_refused(dropout):
    with pytest.raises(InputError, match="probability from 0 to 1"):
        Dropout(dropout)
