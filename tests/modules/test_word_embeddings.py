import gzip
import json

import numpy as np
import pytest
import torch
from tests.support import wordpiece
from tests.tolerances import PACKED

from fourfold import SentenceTransformer
from fourfold.errors import FeatureError, FolderError, InputError, UnknownKeyError, UnknownModuleError
from fourfold.modules import CNN, LSTM, Pooling, WordEmbeddings, WordWeights
from fourfold.modules.tokenizer import PhraseTokenizer, TransformersTokenizerWrapper, WhitespaceTokenizer, WordTokenizer

WORDS = ["PADDING_TOKEN", "the", "fox", "dog", "new_york"]
TABLE = torch.arange(20.0).reshape(5, 4)


def words(**options):
    return WordEmbeddings(WhitespaceTokenizer(WORDS, stop_words=["the"]), TABLE, **options)


def test_features_are_padded_on_the_right_with_noughts():
    features = words().preprocess(["The fox, the dog fox", "", "dog"])
    assert {key: value.tolist() for key, value in features.items()} == {
        "input_ids": [[2, 3, 2], [0, 0, 0], [3, 0, 0]], "attention_mask": [[1, 1, 1], [0, 0, 0], [1, 0, 0]],
        "sentence_lengths": [3, 0, 1],
    }  # fmt: skip
    assert {value.dtype for value in features.values()} == {torch.int64}
    assert words().preprocess([""])["input_ids"].tolist() == [[0]]
    assert words().preprocess([]) == {}


def test_a_prompt_and_the_longest_text():
    module = words(max_seq_length=2)
    assert module.preprocess(["fox fox"], prompt="dog ")["input_ids"].tolist() == [[3, 2]]
    module.max_seq_length = None
    assert module.preprocess(["fox fox"], prompt="dog ")["input_ids"].tolist() == [[3, 2, 2]]


def test_each_word_has_its_vector_and_no_word_stands_for_the_text():
    features = words()(words().preprocess(["dog fox"]))
    assert torch.equal(features["token_embeddings"], TABLE[[3, 2]][None])
    assert features["cls_token_embeddings"] is None
    with pytest.raises(FeatureError, match="words have none"):
        Pooling(4, "cls")(features)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, lambda table: table.tolist(), torch.Tensor.half])
def test_weights_of_any_form_become_a_float32_copy(make):
    module = WordEmbeddings(WhitespaceTokenizer(WORDS), given := make(TABLE.clone()))
    assert module.emb_layer.weight.dtype == torch.float32
    assert torch.equal(module.emb_layer.weight, TABLE)
    module.emb_layer.weight.data.zero_()
    assert np.asarray(given).any()
    assert not module.emb_layer.weight.requires_grad
    assert words(update_embeddings=True).emb_layer.weight.requires_grad


def test_a_transformers_tokenizer_is_wrapped():
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=wordpiece(), unk_token="[UNK]")
    module = WordEmbeddings(tokenizer, torch.eye(wordpiece().get_vocab_size()))
    assert isinstance(module.tokenizer, TransformersTokenizerWrapper)
    assert module.preprocess(["the fox"])["input_ids"].tolist() == [tokenizer("the fox")["input_ids"]]
    module.max_seq_length = 2
    assert module.preprocess(["the fox", "a"])["input_ids"].tolist() == [
        tokenizer("the fox")["input_ids"][:2], tokenizer("a")["input_ids"][:2]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("whitespace", TABLE), "tokenizer must be a WordTokenizer"),
        ((WhitespaceTokenizer([]), TABLE[0]), r"\[words, width\], got shape \(4,\)"),
    ],
)
def test_wrong_arguments_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        WordEmbeddings(*arguments)


@pytest.mark.parametrize("bad", [[("a", "b")], ["a", 3], [None]])
def test_what_is_no_text_is_refused(bad):
    with pytest.raises(InputError, match="position"):
        words().preprocess(bad)


# -- models ------------------------------------------------------------------------------------------------------------

CHAINS = {
    "mean": lambda: [Pooling(4, ("mean", "max"))],
    "weights": lambda: [WordWeights(WORDS, {"fox": 3.0}, 0.5), Pooling(4, ("mean", "lasttoken", "weightedmean"))],
    "cnn": lambda: [CNN(4, 3, [1, 3]), Pooling(6)],
    "lstm": lambda: [LSTM(4, 3, 2), Pooling(6, "lasttoken")],
    "all": lambda: [WordWeights(WORDS, {}), CNN(4, 3, [5]), LSTM(3, 2), Pooling(4)],
    "stride": lambda: [CNN(4, 3, [3], [2]), Pooling(3)],
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_text_has_one_vector_alone_in_company_and_in_any_order(name):
    torch.manual_seed(0)
    model = SentenceTransformer(modules=[words(), *CHAINS[name]()], device="cpu")
    assert all(part.packs({}) for part in model) is (name != "stride")
    texts = ["fox", "fox dog dog fox", "new_york dog", "dog " * 50, "dog the dog"]
    together = model.encode(texts)
    np.testing.assert_allclose(np.stack([model.encode(text) for text in texts]), together, atol=PACKED)
    np.testing.assert_allclose(model.encode(texts[::-1])[::-1], together, atol=PACKED)
    padded = model(model.preprocess(texts))["sentence_embedding"].detach().numpy()
    np.testing.assert_allclose(padded, together, atol=PACKED)


@pytest.mark.parametrize("name", ["mean", "weights", "cnn", "lstm", "all", "stride"])
def test_texts_without_words_are_nought(name):
    model = SentenceTransformer(modules=[words(), *CHAINS[name]()], device="cpu")
    for texts in (["", "unknown words"], ["", "fox dog fox", "unknown"]):
        rows = model.encode(texts)[:, :3]
        assert not rows[0].any()
        assert not rows[-1].any()


# -- folders -----------------------------------------------------------------------------------------------------------


def edited(folder, **change):
    file = folder / "wordembedding_config.json"
    config = {**json.loads(file.read_text()), **change}
    file.write_text(json.dumps({key: value for key, value in config.items() if value != "absent"}))
    return str(folder)


@pytest.fixture
def folder(tmp_path):
    words().save(str(tmp_path))
    return tmp_path


def test_the_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.safetensors", "whitespacetokenizer_config.json", "wordembedding_config.json",
    ]  # fmt: skip
    kind = "sentence_transformers.sentence_transformer.modules.tokenizer.whitespace.WhitespaceTokenizer"
    assert json.loads((folder / "wordembedding_config.json").read_text())["tokenizer_class"] == kind


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"tokenizer_class": "absent"}, KeyError, "WordEmbeddings needs the key 'tokenizer_class'"),
        ({"tokenizer_class": 3}, UnknownModuleError, "must name a class, got 3"),
        ({"tokenizer_class": "sentence_transformers.models.tokenizer.Jieba"}, UnknownModuleError, "known tokenizers"),
        ({"tokenizer_class": "fourfold.modules.tokenizer.nothing.Nothing"}, ImportError, "known tokenizers"),
        ({"tokenizer_class": "os.system"}, FolderError, "trust_remote_code=True"),
        ({"tokenizer": "x"}, UnknownKeyError, "unknown key 'tokenizer'"),
        ({"embedding_weights": [[1]]}, UnknownKeyError, "unknown key 'embedding_weights'"),
    ],
)
def test_settings_that_do_not_fit_name_the_file(folder, change, error, said):
    with pytest.raises(error) as caught:
        WordEmbeddings.load(edited(folder, **change))
    assert said in str(caught.value)
    assert "wordembedding_config.json" in str(caught.value)


def test_missing_settings_have_their_defaults(folder):
    module = WordEmbeddings.load(edited(folder, max_seq_length="absent", update_embeddings="absent"))
    assert (module.max_seq_length, module.update_embeddings) == (1000000, False)


def test_other_weights_and_a_broken_tokenizer_are_errors(folder):
    from safetensors.torch import save_file

    (folder / "whitespacetokenizer_config.json").write_text('{"vocab": [1], "stop_words": []}')
    with pytest.raises(FolderError, match=r"whitespacetokenizer_config.json: .* got 1 at position 0"):
        WordEmbeddings.load(str(folder))
    (folder / "whitespacetokenizer_config.json").unlink()
    with pytest.raises(OSError, match=r"whitespacetokenizer_config.json is missing"):
        WordEmbeddings.load(str(folder))
    save_file({"weight": TABLE}, folder / "model.safetensors")
    with pytest.raises(KeyError, match=r"must hold 'emb_layer.weight', got weight"):
        WordEmbeddings.load(str(folder))


CODE = """
from pathlib import Path

from fourfold.modules.tokenizer import WordTokenizer

class Letters(WordTokenizer):
    def set_vocab(self, vocab): pass
    def get_vocab(self): return ["x", "a", "b"]
    def tokenize(self, text, **kwargs): return [{"a": 1, "b": 2}[letter] for letter in text if letter in "ab"]
    def save(self, output_path): Path(output_path, "letters").write_text("yes")
    @staticmethod
    def load(input_path):
        assert Path(input_path, "letters").read_text() == "yes"
        return Letters()
"""


def test_a_tokenizer_of_somebody_else_needs_trust_and_travels_with_its_code(folder, tmp_path_factory):
    (folder / "letters.py").write_text(CODE)
    (folder / "letters").write_text("yes")
    edited(folder, tokenizer_class="letters.Letters")
    with pytest.raises(FolderError, match="trust_remote_code=True"):
        WordEmbeddings.load(str(folder))
    module = WordEmbeddings.load(str(folder), trust_remote_code=True)
    assert module.preprocess(["abba"])["input_ids"].tolist() == [[1, 2, 2, 1]]
    copy = tmp_path_factory.mktemp("copy")
    module.save(str(copy))
    assert json.loads((copy / "wordembedding_config.json").read_text())["tokenizer_class"] == "letters.Letters"
    again = WordEmbeddings.load(str(copy), trust_remote_code=True)
    assert again.preprocess(["abba"])["input_ids"].tolist() == [[1, 2, 2, 1]]


def test_a_tokenizer_with_the_contracts_methods_alone_is_enough():
    class Lengths(WordTokenizer):
        def set_vocab(self, vocab):
            pass

        def get_vocab(self):
            return []

        def tokenize(self, text, **kwargs):
            return [len(word) for word in text.split()]

        def save(self, output_path):
            pass

        @staticmethod
        def load(input_path):
            return Lengths()

    module = WordEmbeddings(Lengths(), torch.eye(5), max_seq_length=2)
    assert module.preprocess(["a bb ccc", "dddd"])["input_ids"].tolist() == [[1, 2], [4, 0]]


def test_every_tokenizer_of_ours_is_saved_with_its_module(tmp_path):
    module = WordEmbeddings(PhraseTokenizer(WORDS, stop_words=[]), TABLE)
    module.save(str(tmp_path))
    again = WordEmbeddings.load(str(tmp_path))
    assert isinstance(again.tokenizer, PhraseTokenizer)
    assert again.preprocess(["new york fox"])["input_ids"].tolist() == [[4, 2]]


# -- files of vectors --------------------------------------------------------------------------------------------------


def read(tmp_path, content, name="vectors.txt", **options):
    path = tmp_path / name
    with gzip.open(path, "wt", encoding="utf-8") if name.endswith("gz") else path.open("w", encoding="utf-8") as file:
        file.write(content)
    module = WordEmbeddings.from_text_file(str(path), **options)
    return module.tokenizer.get_vocab(), module.emb_layer.weight.tolist(), module


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
def test_a_file_is_a_word_and_its_numbers_a_line(tmp_path, name):
    vocab, table, module = read(tmp_path, "fox 1 2\ndog 3 4e-1\n", name)
    assert vocab == ["PADDING_TOKEN", "fox", "dog"]
    assert table == [[0, 0], [1, 2], [3, pytest.approx(0.4)]]
    assert isinstance(module.tokenizer, WhitespaceTokenizer)
    assert module.preprocess(["the fox and the dog"])["input_ids"].tolist() == [[1, 2]]
    assert read(tmp_path, "fox 1\n2 2\n")[0] == ["PADDING_TOKEN", "2"]  # the first line is a header


def test_lines_of_another_length_are_skipped_and_named(tmp_path, caplog):
    vocab, _, _ = read(tmp_path, "9 2\nfox 1 2\n\nbad 1\n. . . 1 2\ndog 3 4 \n")
    assert vocab == ["PADDING_TOKEN", "fox", "dog"]
    assert [message.split(", ")[1].split(" instead")[0] for message in caplog.messages] == [
        "line 3: 0 numbers",
        "line 4: 1 numbers",
        "line 5: 4 numbers",
    ]


def test_options(tmp_path):
    content = "fox\t1\t2\nnew york\t3\t4\ndog\t5\t6\n"
    tokenizer = WhitespaceTokenizer(["other"], stop_words=["dog"])
    vocab, table, module = read(
        tmp_path, content, item_separator="\t", update_embeddings=True, tokenizer=tokenizer, max_vocab_size=2
    )
    assert vocab == ["PADDING_TOKEN", "fox", "new york"]
    assert len(table) == 3
    assert module.tokenizer is tokenizer
    assert module.emb_layer.weight.requires_grad


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no word vectors"),
        ("3 2\n", "holds no word vectors"),
        ("fox 1 2\ndog 3 x\n", "holds no word vectors after line 1: could not convert string to float: 'x'"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, content, said):
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    assert said in str(caught.value)
    assert "vectors.txt" in str(caught.value)


def test_a_file_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes("café 1 2\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.txt holds no word vectors"):
        WordEmbeddings.from_text_file(str(tmp_path / "latin.txt"))


@pytest.mark.parametrize("name", ["glove.6B.300d.txt.gz", "./nowhere/vectors.txt"])
def test_nothing_is_downloaded(name, no_network):
    with pytest.raises(InputError, match="do not exist; download the file"):
        WordEmbeddings.from_text_file(name)
