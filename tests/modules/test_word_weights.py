import pytest
import torch

from fourfold.errors import InputError
from fourfold.modules import Pooling, WordWeights


def features(**more):
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    ids, mask = torch.tensor([[0, 1], [2, 1]]), torch.tensor([[1, 1], [1, 0]])
    return {"token_embeddings": tokens, "input_ids": ids, "attention_mask": mask, **more}


def test_a_word_has_its_weight_or_that_of_its_lower_case_or_the_unknown_one():
    module = WordWeights(["Fox", "fox", "DOG", "x"], {"fox": 2, "dog": 3.0, "X": 9}, 0.5)
    assert module.emb_layer.weight.squeeze(1).tolist() == [2.0, 2.0, 3.0, 0.5]
    assert module.emb_layer.weight.requires_grad
    assert WordWeights(["a"], {}).emb_layer.weight.item() == 1.0


def test_tokens_are_scaled_and_their_weights_summed():
    out = WordWeights(["a", "b", "c"], {"a": 2.0, "b": 0.5, "c": 3.0})(features())
    assert out["token_embeddings"].tolist() == [[[2.0, 4.0], [1.5, 2.0]], [[15.0, 18.0], [0.0, 0.0]]]
    assert out["token_weights_sum"].tolist() == [2.5, 3.0]


def test_the_mean_after_it_is_weighted():
    out = Pooling(2)(WordWeights(["a", "b", "c"], {"a": 2.0, "b": 0.5, "c": 3.0})(features()))
    torch.testing.assert_close(out["sentence_embedding"], torch.tensor([[3.5 / 2.5, 6 / 2.5], [5.0, 6.0]]))


def test_a_text_without_words_weighs_nothing():
    out = WordWeights(["a", "b", "c"], {})(features(attention_mask=torch.zeros(2, 2, dtype=torch.int64)))
    assert out["token_weights_sum"].tolist() == [0.0, 0.0]
    assert not out["token_embeddings"].any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("abc", {}), "vocab must be a list of words, got 'abc'"),
        ((["a", 3], {}), "got 3 at position 1"),
        ((["a"], [1]), "word_weights must map words to numbers, got list"),
        ((["a"], {"a": "x"}), "weight of 'a' must be a number, got 'x'"),
        ((["a"], {}, None), "weight of 'a' must be a number, got None"),
    ],
)
def test_what_is_no_weight_is_refused(arguments, said):
    with pytest.raises(InputError) as caught:
        WordWeights(*arguments)
    assert said in str(caught.value)


def test_weights_that_training_changed_are_kept_and_a_folder_without_them_has_those_of_its_settings(tmp_path):
    module = WordWeights(["a", "b"], {"a": 2.0}, 0.5)
    with torch.no_grad():
        module.emb_layer.weight[1] = 7.0
    module.save(str(tmp_path))
    assert WordWeights.load(str(tmp_path)).emb_layer.weight.flatten().tolist() == [2.0, 7.0]
    (tmp_path / "model.safetensors").unlink()
    assert WordWeights.load(str(tmp_path)).emb_layer.weight.flatten().tolist() == [2.0, 0.5]
