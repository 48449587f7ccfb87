import pytest
import torch
from tests.tolerances import FORMULA
from torch import nn

from fourfold.errors import InputError
from fourfold.modules import LSTM

LENGTHS = [3, 5, 0, 1, 5]


def padded():
    torch.manual_seed(1)
    mask = (torch.arange(6) < torch.tensor(LENGTHS)[:, None]).long()
    return {"token_embeddings": torch.randn(len(LENGTHS), 6, 4) * 2, "attention_mask": mask}


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("both", [False, True])
def test_each_text_is_read_as_if_it_were_alone(layers, both):
    torch.manual_seed(0)
    module = LSTM(4, 3, layers, bidirectional=both).eval()
    plain = nn.LSTM(4, 3, layers, bidirectional=both, batch_first=True)
    plain.load_state_dict(module.encoder.state_dict())
    features = padded()
    out = module(dict(features))["token_embeddings"]
    assert out.shape == (5, 6, 6 if both else 3)
    for row, length in enumerate(LENGTHS):
        if length:
            want = plain(features["token_embeddings"][row : row + 1, :length])[0][0]
            torch.testing.assert_close(out[row, :length], want, atol=FORMULA, rtol=0)
        assert not out[row, length:].any()
    assert module.get_embedding_dimension() == module.embeddings_dimension == out.shape[-1]


def test_lengths_alone_say_where_texts_end():
    module, features = LSTM(4, 3).eval(), padded()
    want = module(dict(features))["token_embeddings"]
    del features["attention_mask"]
    got = module({**features, "sentence_lengths": torch.tensor(LENGTHS)})
    assert torch.equal(got["token_embeddings"], want)
    assert "attention_mask" not in got


def test_a_batch_without_words():
    out = LSTM(4, 3)({"token_embeddings": torch.ones(2, 1, 4), "attention_mask": torch.zeros(2, 1)})
    assert out["token_embeddings"].tolist() == [[[0.0] * 6]] * 2


def test_dropout_between_layers_acts_in_training_only():
    torch.manual_seed(0)
    module = LSTM(4, 3, 2, dropout=0.9)
    features = padded()
    quiet = module.eval()(dict(features))["token_embeddings"]
    assert torch.equal(module.eval()(dict(features))["token_embeddings"], quiet)
    assert not torch.equal(module.train()(dict(features))["token_embeddings"], quiet)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, 3), "embedding_dimension must be a positive number"),
        ((4, "3"), "hidden_dim must be a positive number"),
        ((4, 3, 0), "num_layers must be a positive number"),
        ((4, 3, 1, 2), "dropout must be a probability"),
    ],
)
def test_settings_that_are_none_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        LSTM(*arguments)
