import pytest
import torch

from fourfold import SentenceTransformer
from fourfold.errors import InputError
from fourfold.modules import BoW, Normalize


def rows(module, *texts, **options):
    return module.preprocess(list(texts), **options)["sentence_embedding"].tolist()


def test_words_are_counted_each_with_its_weight():
    module = BoW(["fox", "dog", "the"], {"Dog": 2.0, "fox": 3.0}, 0.5)
    assert module.weights == [3.0, 0.5, 0.5]
    assert rows(module, "fox fox, Dog THE unknown", "") == [[6.0, 0.5, 0.5], [0.0, 0.0, 0.0]]
    assert rows(module, "fox", prompt="dog ") == [[3.0, 0.5, 0.0]]


def test_a_word_may_count_once():
    assert rows(BoW(["fox", "dog"], {"dog": 2.0}, cumulative_term_frequency=False), "dog fox dog") == [[1.0, 2.0]]


def test_of_a_repeated_word_the_first_place_counts():
    module = BoW(["b", "a", "b"])
    assert (module.vocab, module.sentence_embedding_dimension, module.get_embedding_dimension()) == (["b", "a"], 2, 2)
    assert rows(module, "b b a") == [[2.0, 1.0]]


def test_ids_give_the_same():
    module = BoW(["a", "b"], {"b": 3.0})
    features = module.get_sentence_features([[0, 0, 1], []], pad_seq_length=7)
    assert features["sentence_embedding"].tolist() == [[2.0, 3.0], [0.0, 0.0]]
    assert features["sentence_embedding"].dtype == torch.float32
    assert module(features) is features


def test_no_word_is_a_stop_word():
    assert rows(BoW(["the", "!"]), "the !") == [[1.0, 1.0]]


@pytest.mark.parametrize("bad", [[("a", "b")], [3], [None]])
def test_what_is_no_text_is_refused(bad):
    with pytest.raises(InputError, match="position 0"):
        BoW(["a"]).preprocess(bad)


def test_a_model_of_it_lies_in_a_folder_of_its_own(tmp_path):
    model = SentenceTransformer(modules=[BoW(["fox", "dog"], {"dog": 3.0}), Normalize()], device="cpu")
    vectors = model.encode(["fox dog", "", "dog"])
    torch.testing.assert_close(torch.from_numpy(vectors), torch.tensor([[0.1**0.5, 0.9**0.5], [0, 0], [0, 1.0]]))
    model.save(str(tmp_path))
    assert sorted(path.name for path in (tmp_path / "0_BoW").iterdir()) == ["config.json"]
    assert (SentenceTransformer(str(tmp_path), device="cpu").encode(["fox dog", "", "dog"]) == vectors).all()
