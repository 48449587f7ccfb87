import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests import tolerances
from tests.support import whole_words, wordpiece

from fourfold import SentenceTransformer
from fourfold.errors import FolderError, InputError, WeightsError
from fourfold.modules import StaticEmbedding


def folder(tmp_path, tensors, tokenizer=None):
    (tokenizer or whole_words("[UNK]", "a", "b", "c")).save(str(tmp_path / "tokenizer.json"))
    save_file(tensors, tmp_path / "model.safetensors")
    return str(tmp_path)


def vector(module, *texts):
    return module(module.preprocess(list(texts)))["sentence_embedding"]


def test_a_text_is_the_mean_of_its_tokens():
    module = StaticEmbedding.example()
    table = module.embedding.weight
    got = vector(module, "a b b", "", "nothing known", "c")
    want = torch.stack([(table[1] + 2 * table[2]) / 3, torch.zeros(8), table[0], table[3]])
    assert torch.allclose(got, want)


def test_features_are_flat():
    features = StaticEmbedding.example().preprocess(["a b", "", "c"])
    assert features["input_ids"].tolist() == [1, 2, 3]
    assert features["offsets"].tolist() == [0, 2, 2]
    assert {value.dtype for value in features.values()} == {torch.int64}
    assert StaticEmbedding.example().preprocess([]) == {}


def test_no_special_tokens_and_no_padding():
    tokenizer = wordpiece()
    tokenizer.enable_padding(length=20)
    module = StaticEmbedding(tokenizer, embedding_dim=4)
    assert module.preprocess(["the fox"])["input_ids"].tolist() == tokenizer.encode("the fox").ids[1:3]
    assert module.tokenizer.padding is None


def test_no_text_is_too_long():
    module = StaticEmbedding.example()
    assert module.max_seq_length == math.inf
    assert len(module.preprocess(["a " * 5000])["input_ids"]) == 5000
    with pytest.raises(AttributeError):
        module.max_seq_length = 5


def test_a_tokenizers_own_truncation_is_kept():
    tokenizer = whole_words("[UNK]", "a")
    tokenizer.enable_truncation(3)
    assert len(StaticEmbedding(tokenizer, embedding_dim=2).preprocess(["a a a a a"])["input_ids"]) == 3


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, lambda table: table.tolist()])
def test_weights_of_any_form(make):
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    module = StaticEmbedding(whole_words("[UNK]", "a", "b", "c"), make(table))
    np.testing.assert_array_equal(module.embedding.weight.detach(), table)
    assert module.embedding.weight.requires_grad
    assert (module.num_embeddings, module.embedding_dim, module.get_embedding_dimension()) == (4, 2, 2)


def test_a_width_alone_gives_random_vectors():
    assert StaticEmbedding(whole_words("[UNK]", "a"), embedding_dim=6).embedding.weight.shape == (2, 6)


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="embedding_weights or embedding_dim"):
        StaticEmbedding(whole_words("[UNK]"))
    with pytest.raises(InputError, match="tokenizer must be"):
        StaticEmbedding("bert-base-uncased", embedding_dim=3)


# -- folders of model2vec ----------------------------------------------------------------------------------------------

ROWS = torch.tensor([[0, 0], [2, 4], [-6, 8]], dtype=torch.int8)


def test_bytes_become_float32(tmp_path):
    module = StaticEmbedding.load(folder(tmp_path, {"embeddings": ROWS}, whole_words("[UNK]", "a", "b")))
    assert vector(module, "a b").tolist() == [[-2, 6]]


def test_a_mapping_and_weights(tmp_path):
    tensors = {
        "embeddings": ROWS,
        "mapping": torch.tensor([0, 2, 2, 1]),
        "weights": torch.tensor([1.0, 0.5, 1.0, 2.0], dtype=torch.float64),
    }
    module = StaticEmbedding.load(folder(tmp_path, tensors))
    assert vector(module, "a", "b", "c").tolist() == [[-3, 4], [-6, 8], [4, 8]]


@pytest.mark.parametrize("kind", [torch.float16, torch.float32, torch.float64, torch.int8])
@pytest.mark.parametrize("weights", [torch.float16, torch.float64])
def test_weighted_tables_are_single_precision_at_least_whatever_the_weights_are(tmp_path, kind, weights):
    tensors = {"embeddings": torch.ones(4, 2, dtype=kind), "weights": torch.ones(4, dtype=weights)}
    module = StaticEmbedding.load(folder(tmp_path, tensors))
    assert module.embedding.weight.dtype == (torch.float64 if kind == torch.float64 else torch.float32)


def test_a_folder_of_model2vec_is_read_without_its_package(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "model2vec", None)
    name = folder(tmp_path, {"embeddings": ROWS}, whole_words("[UNK]", "a", "b"))
    module = StaticEmbedding.from_model2vec(name)
    assert vector(module, "a b").tolist() == [[-2, 6]]
    assert module.base_model == name
    with pytest.raises(FileNotFoundError, match="does not exist"):
        StaticEmbedding.from_model2vec(str(tmp_path / "nowhere"))
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(OSError, match=r"tokenizer.json is missing"):
        StaticEmbedding.from_model2vec(name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tables_keep_their_type(tmp_path, dtype):
    module = StaticEmbedding.load(folder(tmp_path, {"embedding.weight": torch.ones(4, 2, dtype=dtype)}))
    assert module.embedding.weight.dtype == dtype


@pytest.mark.parametrize(
    ("tensors", "error", "said"),
    [
        ({"other": torch.ones(2)}, FolderError, "must hold 'embedding.weight' or 'embeddings', got other"),
        ({"embedding.weight": torch.ones(3, 2)}, WeightsError, "ids up to 3, the weights have 3 rows"),
        ({"embeddings": torch.ones(2, 2), "mapping": torch.tensor([0, 1, 7, 0])}, FolderError, "mapping"),
        ({"embeddings": torch.ones(2, 2), "mapping": torch.tensor([0, 1, -1, 0])}, FolderError, "mapping"),
        ({"embeddings": torch.ones(4, 2), "weights": torch.ones(3)}, FolderError, "weights"),
        ({"embedding.weight": torch.ones(8)}, FolderError, "two dimensions"),
    ],
)
def test_tables_that_do_not_fit_name_the_file(tmp_path, tensors, error, said):
    with pytest.raises(error) as caught:
        StaticEmbedding.load(folder(tmp_path, tensors))
    assert str(tmp_path) in str(caught.value)
    assert said in str(caught.value)


# -- a model of it -----------------------------------------------------------------------------------------------------


def test_a_vocabulary_of_one_token():
    model = SentenceTransformer(modules=[StaticEmbedding(whole_words("[UNK]"), torch.ones(1, 3))], device="cpu")
    assert model.encode(["anything at all", "", "🙂"]).tolist() == [[1, 1, 1], [0, 0, 0], [1, 1, 1]]


def test_twenty_thousand_texts(tmp_path):
    model = SentenceTransformer(modules=[StaticEmbedding.example()], device="cpu")
    texts = [("a " * (i % 7) + "b " * (i % 3)).strip() for i in range(20_000)]
    rows = model.encode(texts)
    table = model[0].embedding.weight.detach().numpy()
    for i in (0, 1, 2, 3000, 19_999):
        counts = i % 7 + i % 3
        want = (table[1] * (i % 7) + table[2] * (i % 3)) / max(counts, 1)
        np.testing.assert_allclose(rows[i], want, atol=tolerances.STATIC)
