import numpy as np
import pytest
from tests.support import TEXTS, wordpiece

from fourfold.modules.tokenizer import TransformersTokenizerWrapper


@pytest.fixture
def tokenizer():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=wordpiece(), unk_token="[UNK]", pad_token="[PAD]")


def test_ids_are_the_tokenizers_special_tokens_included(tokenizer):
    wrapper = TransformersTokenizerWrapper(tokenizer)
    wrapper.set_vocab(["ignored"])
    packed = wrapper.pack(TEXTS)
    for row, text in enumerate(TEXTS):
        want = tokenizer(text)["input_ids"]
        assert wrapper.tokenize(text) == want
        assert packed.ids[packed.offsets[row] : packed.offsets[row + 1]].tolist() == want
    assert wrapper.get_vocab() == tokenizer.get_vocab()


def test_long_rows_are_cut(tokenizer):
    wrapper = TransformersTokenizerWrapper(tokenizer)
    packed = wrapper.pack(TEXTS, 3)
    want = [tokenizer(text)["input_ids"][:3] for text in TEXTS]
    assert [part.tolist() for part in np.split(packed.ids, packed.offsets[1:-1])] == want
    assert wrapper.pack([], 3).ids.tolist() == []


def test_a_tokenizer_in_python_does_too(tokenizer):
    class Slow:
        def __call__(self, text):
            return tokenizer(text)

    assert (
        TransformersTokenizerWrapper(Slow()).pack(["the fox"], 2).ids.tolist() == tokenizer("the fox")["input_ids"][:2]
    )


def test_it_is_saved_as_transformers_does(tokenizer, tmp_path):
    TransformersTokenizerWrapper(tokenizer).save(str(tmp_path))
    assert (tmp_path / "tokenizer.json").exists()
    again = TransformersTokenizerWrapper.load(str(tmp_path))
    assert again.tokenize(TEXTS[3]) == tokenizer(TEXTS[3])["input_ids"]
