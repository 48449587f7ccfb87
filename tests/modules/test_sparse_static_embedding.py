import copy
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support import TEXTS, hub_cache, whole_words, wordpiece

from fourfold.errors import FolderError, InputError, MissingFileError, WeightsError
from fourfold.modules import SparseStaticEmbedding


def fast(tokenizer=None, **options):
    from transformers import PreTrainedTokenizerFast

    names = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer or whole_words("[UNK]", "[PAD]", "a", "b", "c"), **{**names, **options}
    )


def made(**options):
    return SparseStaticEmbedding(fast(), torch.tensor([0.5, 0.25, 1.0, 2.0, 3.0]), **options)


def padded(module, *texts):
    return module(module.preprocess(list(texts)))["sentence_embedding"]


def packed(module, *texts):
    with torch.inference_mode():
        return module(module.pack(module.tokenise(list(texts))))["sentence_embedding"]


# -- weights -----------------------------------------------------------------------------------------------------------


def test_each_token_counts_once():
    want = torch.tensor([[0, 0, 1.0, 2, 0], [0, 0, 0, 0, 3], [0, 0, 0, 0, 0], [0.5, 0, 1, 0, 0]])
    assert torch.equal(padded(made(), "a b a a", "c c", "", "a other"), want)


def test_packed_rows_are_sparse_and_sorted():
    got = packed(made(), "b a b", "", "c", "[PAD] a")
    assert got.layout == torch.sparse_coo
    assert got.is_coalesced()
    assert got.indices().tolist() == [[0, 0, 2, 3, 3], [2, 3, 4, 1, 2]]
    assert got.values().tolist() == [1, 2, 3, 0.25, 1]
    assert torch.equal(got.to_dense(), padded(made(), "b a b", "", "c", "[PAD] a"))


def test_a_padding_token_that_a_text_holds_counts_whatever_pads_it():
    module = made()
    assert padded(module, "a [PAD]", "a b c a b")[0].tolist() == [0, 0.25, 1, 0, 0]


def test_outside_inference_mode_packed_rows_are_dense_and_have_gradients():
    module = made()
    features = module.pack(module.tokenise(["a a c", "a"]))
    rows = module(features)["sentence_embedding"]
    assert rows.layout == torch.strided
    rows.sum().backward()
    assert module.weight.grad.tolist() == [0, 0, 2, 0, 1]


def test_frozen_weights_have_no_gradient():
    assert not made(frozen=True).weight.requires_grad
    assert not padded(made(frozen=True), "a").requires_grad


@pytest.mark.parametrize("inference", [True, False])
def test_rows_that_are_there_are_multiplied(inference):
    module, before = made(), torch.arange(10.0).view(2, 5)
    for features in (module.preprocess(["a", "c b"]), module.pack(module.tokenise(["a", "c b"]))):
        with torch.inference_mode(inference):
            got = module({**features, "sentence_embedding": before})["sentence_embedding"]
        assert torch.equal(got, torch.tensor([[0.0, 0, 2, 0, 0], [0, 0, 0, 16, 27]]))


def test_usual_weights_are_ones():
    module = SparseStaticEmbedding(fast())
    assert torch.equal(module.weight, torch.ones(5))
    assert module.num_dimensions == module.get_embedding_dimension() == 5
    assert module.weight.requires_grad


@pytest.mark.parametrize(
    ("weight", "got"),
    [(torch.ones(5, 1), r"torch.float32 of shape \(5, 1\)"), (torch.ones(5, dtype=int), r"torch.int64 of shape")],
    ids=["matrix", "integers"],
)
def test_weights_that_are_not_one_number_a_token(weight, got):
    with pytest.raises(InputError, match=rf"weight must be one floating-point number .* 5 tokens, got {got}"):
        SparseStaticEmbedding(fast(), weight)


def test_tokens_without_a_weight_are_an_error_not_another_rows_weight():
    module = SparseStaticEmbedding(fast(), torch.ones(3))
    for way in (padded, packed):
        assert way(module, "a").shape == (1, 3)
        with pytest.raises(WeightsError, match="ids up to 4, there are 3 weights"):
            way(module, "a c", "a")


def test_a_bare_tokenizer_of_the_rust_library():
    module = SparseStaticEmbedding(whole_words("[UNK]", "[PAD]", "a", "b", "c"))
    assert padded(module, "a c").tolist() == [[0, 0, 1, 0, 1]]


# -- texts -------------------------------------------------------------------------------------------------------------


def test_no_special_tokens():
    module = SparseStaticEmbedding(fast(wordpiece()))
    features = module.preprocess(["the fox", "fox"])
    inner = wordpiece().encode("the fox").ids[1:-1]
    assert features["input_ids"].tolist() == [inner, [inner[1], 0]]
    assert features["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert {value.dtype for value in features.values()} == {torch.int64}


def test_texts_are_cut_at_the_tokenizers_limit_and_at_the_modules():
    module = SparseStaticEmbedding(fast(model_max_length=4))
    assert module.max_seq_length == 4
    assert module.preprocess(["a a a a a a"])["input_ids"].shape == (1, 4)
    module.max_seq_length = 2
    assert module.preprocess(["a a a a a a"])["input_ids"].shape == (1, 2)
    assert module.tokenise(["a a a a a a"]).lengths.tolist() == [2]
    module.max_seq_length = None
    assert module.longest_input() == 4
    assert made().longest_input() is None


def test_a_prompt_counts_too():
    module = made()
    want = padded(module, "c a b")
    assert torch.equal(module(module.preprocess(["b"], prompt="c a "))["sentence_embedding"], want)
    with torch.inference_mode():
        got = module(module.pack(module.tokenise(["b"], "c a ")))["sentence_embedding"]
    assert torch.equal(got.to_dense(), want)


@pytest.mark.parametrize("inputs", [[None], [3], [{"text": 1}]], ids=str)
def test_what_is_no_text(inputs):
    with pytest.raises(InputError):
        made().preprocess(inputs)


def test_a_tokenizer_that_changes_is_followed():
    module = SparseStaticEmbedding(fast(), torch.arange(7.0))
    assert padded(module, "d").tolist()[0] == [0] * 7  # unknown, and its weight is 0
    module.tokenizer.add_tokens(["d"])
    assert padded(module, "d").tolist()[0] == [0, 0, 0, 0, 0, 5, 0]
    module.tokenizer = fast(whole_words("[UNK]", "[PAD]", "d", "a", "b", "c"))
    assert padded(module, "d").tolist()[0] == [0, 0, 2, 0, 0, 0, 0]


def test_a_tokenizer_written_in_python(tmp_path):
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]))
    slow = BertTokenizer(str(tmp_path / "vocab.txt"))
    if getattr(slow, "backend_tokenizer", None) is not None:
        slow = _Python()
    module = SparseStaticEmbedding(slow, torch.arange(7.0))
    assert padded(module, "a b a", "b").tolist() == [[0, 0, 0, 0, 0, 5, 6], [0, 0, 0, 0, 0, 0, 6]]
    assert torch.equal(packed(module, "a b a", "b").to_dense(), padded(module, "a b a", "b"))
    assert module.locating_tokenizer() is None
    assert made().locating_tokenizer() is not None


class _Python:
    """As much of a tokenizer of transformers as is called, for releases where all have a Rust side."""

    model_max_length, pad_token_id, all_special_ids = 512, 0, (0, 1, 2, 3, 4)

    def get_vocab(self):
        return {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"])}

    def __len__(self):
        return 7

    def __call__(self, texts, add_special_tokens=True, truncation=False, max_length=None):
        assert not add_special_tokens
        ids = [[self.get_vocab().get(word, 1) for word in text.split()] for text in texts]
        return {"input_ids": [row[:max_length] if truncation else row for row in ids]}


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False])
def test_a_folder(tmp_path, safe):
    module = made(frozen=True)
    module.save(str(tmp_path), safe_serialization=safe)
    assert json.loads((tmp_path / "config.json").read_text()) == {"frozen": True}
    if safe:
        assert load_file(tmp_path / "model.safetensors").keys() == {"weight"}
    again = SparseStaticEmbedding.load(str(tmp_path))
    assert again.frozen
    assert not again.weight.requires_grad
    assert torch.equal(padded(again, *TEXTS, "a b"), padded(module, *TEXTS, "a b"))


def test_copies_give_the_same(tmp_path):
    module = made()
    want = padded(module, "a b", "c")
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(padded(again, "a b", "c"), want)
        assert torch.equal(packed(again, "a b", "c").to_dense(), want)


def test_weights_of_a_json_file(tmp_path):
    (tmp_path / "weights.json").write_text(json.dumps({"a": 2, "c": 0.5, "unheard": 9.0}))
    module = SparseStaticEmbedding.from_json(str(tmp_path / "weights.json"), fast(), frozen=True)
    assert module.weight.tolist() == [0, 0, 2, 0, 0.5]
    assert not module.weight.requires_grad


def test_weights_of_a_hub_repository(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "idf.json").write_text('{"b": 4.0}')
    hub_cache(tmp_path / "cache", "some/idf", folder)
    module = SparseStaticEmbedding.from_json(
        "some/idf", fast(), cache_folder=str(tmp_path / "cache"), local_files_only=True
    )
    assert module.weight.tolist() == [0, 0, 0, 4, 0]


@pytest.mark.parametrize("name", ["missing.json", "/nowhere/missing.json", "some/missing"])
def test_weights_that_are_not_there(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} is neither a JSON file nor a repository that holds idf.json"):
        SparseStaticEmbedding.from_json(name, fast(), cache_folder=str(tmp_path), local_files_only=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "must hold an object of weights by token, got list"), ('{"a": ', "is not JSON"),
        ('{"a": "1"}', r"weight of 'a' must be a .*number, got '1'"), ('{"a": null}', "got None"),
        ('{"a": NaN}', "got nan"), ('{"a": true}', "got True"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["from_json", "load"])
def test_weights_that_are_something_else(tmp_path, text, message, way):
    made().save(str(tmp_path))
    (tmp_path / "idf.json").write_text(text)
    (tmp_path / "config.json").write_text('{"path": "idf.json"}')
    read = {
        "from_json": lambda: SparseStaticEmbedding.from_json(str(tmp_path / "idf.json"), fast()),
        "load": lambda: SparseStaticEmbedding.load(str(tmp_path)),
    }
    with pytest.raises(FolderError, match=rf"idf.json.*{message}"):
        read[way]()


def test_settings_may_name_a_json_file(tmp_path):
    made().save(str(tmp_path / "query"))
    (tmp_path / "query" / "model.safetensors").unlink()
    (tmp_path / "query" / "config.json").write_text('{"frozen": true, "path": "idf.json"}')
    (tmp_path / "query" / "idf.json").write_text('{"a": 7.0}')
    for arguments in ((str(tmp_path / "query"),), (str(tmp_path), "query")):
        module = SparseStaticEmbedding.load(*arguments)
        assert module.weight.tolist() == [0, 0, 7, 0, 0]
        assert module.frozen
    (tmp_path / "query" / "idf.json").unlink()
    with pytest.raises(MissingFileError, match=r"idf.json"):
        SparseStaticEmbedding.load(str(tmp_path / "query"))
    (tmp_path / "idf.json").write_text('{"b": 8.0}')  # some folders name it relative to the model's own
    assert SparseStaticEmbedding.load(str(tmp_path), "query").weight.tolist() == [0, 0, 0, 8, 0]


def test_a_json_file_out_of_the_folder_is_refused(tmp_path):
    made().save(str(tmp_path / "model"))
    (tmp_path / "outside.json").write_text('{"a": 7.0}')
    (tmp_path / "model" / "config.json").write_text('{"path": "../outside.json"}')
    with pytest.raises(FolderError):
        SparseStaticEmbedding.load(str(tmp_path / "model"))


def test_fewer_weights_than_tokens_are_an_error_that_names_the_folder(tmp_path):
    made().save(str(tmp_path))
    save_file({"weight": torch.ones(4)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError) as caught:
        SparseStaticEmbedding.load(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
