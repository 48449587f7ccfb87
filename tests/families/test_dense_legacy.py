"""Members of the dense class from earlier generations."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.support import TEXTS, load

from fourfold import SentenceTransformer
from fourfold.testing import WIDTH, tiny, tiny_folder


def test_the_older_name_of_the_dimension():
    with pytest.warns(FutureWarning, match="use get_embedding_dimension") as told:
        assert tiny().get_sentence_embedding_dimension() == WIDTH
    assert told[0].filename == __file__


def test_the_older_name_of_truncation():
    model = tiny()
    with pytest.warns(FutureWarning, match="use truncate_embeddings") as told, model.truncate_sentence_embeddings(5):
        assert model.encode("a").shape == (5,)
    assert told[0].filename == __file__
    assert model.encode("a").shape == (WIDTH,)


def test_the_older_way_to_load():
    with pytest.warns(DeprecationWarning, match="SentenceTransformer\\(path\\)"):
        model = SentenceTransformer.load(str(tiny_folder()))
    np.testing.assert_array_equal(model.encode(TEXTS), load(tiny_folder()).encode(TEXTS))


def test_features_by_a_method_of_the_first_module():
    class Older(torch.nn.Module):
        def get_sentence_features(self, tokens, length):
            return {"tokens": tokens, "length": length}

    with pytest.warns(DeprecationWarning, match="get_sentence_features"):
        assert SentenceTransformer(modules=[Older()]).get_sentence_features([1], 2) == {"tokens": [1], "length": 2}
    with pytest.warns(DeprecationWarning, match="get_sentence_features"), pytest.raises(AttributeError):
        tiny().get_sentence_features([1], 2)


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        ([1, 0], torch.tensor([1, 0])),
        ([0.5, 1.5], torch.tensor([0.5, 1.5])),
        ([[1, 2], [3, 4]], torch.tensor([[1, 2], [3, 4]])),
        ([np.array([1.0, 2.0]), np.array([3.0, 4.0])], torch.tensor([[1, 2], [3, 4]], dtype=torch.float64)),
    ],
)
def test_collating_examples(labels, want):
    model = tiny()
    texts = [("a text", "the world"), ("short", "a longer document")]
    examples = [SimpleNamespace(texts=pair, label=label) for pair, label in zip(texts, labels, strict=True)]
    features, got = model.smart_batching_collate(examples)
    assert got.dtype == want.dtype
    assert torch.equal(got, want)
    assert len(features) == 2
    for column, batch in enumerate(features):
        assert torch.equal(batch["input_ids"], model.preprocess([pair[column] for pair in texts])["input_ids"])


def test_collating_nothing():
    features, labels = tiny().smart_batching_collate([])
    assert features == []
    assert labels.shape == (0,)
