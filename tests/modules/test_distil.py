"""Static vectors of a transformer's tokens, beside the plain way: one token at a time."""

import json

import numpy as np
import pytest
import torch
import transformers
from tests.support import byte_level, metaspace
from tests.tolerances import FORMULA_LARGE, PACKED
from tokenizers import processors

from fourfold import SentenceTransformer
from fourfold.errors import InputError
from fourfold.modules import Normalize, StaticEmbedding
from fourfold.modules._distil import Recipe, frequency_weights, principal_axes, quantised
from fourfold.testing import WIDTH, checkpoint, tiny_folder

PLAIN = {"pca_dims": None, "apply_zipf": False}


def with_tokenizer(folder, make):
    """A tiny BERT whose tokenizer is of another kind."""
    base = make()
    base.add_special_tokens(["<s>", "</s>", "<pad>"])
    around = [(token, base.token_to_id(token)) for token in ("<s>", "</s>")]
    base.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=around
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=base, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    made = {
        name: str(checkpoint(name, root / name)) for name in ("bert", "roberta", "mpnet", "qwen3", "t5", "modernbert")
    }
    return {**made, "bpe": with_tokenizer(root / "bpe", byte_level), "unigram": with_tokenizer(root / "uni", metaspace)}


def one_by_one(folder, ids):
    """The plain twin: the mean of a transformer's last layer over a token and the special tokens around it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = getattr(model, "encoder", model) if model.config.model_type == "t5" else model
    inner = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = whole.index(inner[0])
    around = (whole[:start], whole[start + len(inner) :])
    with torch.no_grad():
        rows = [model(torch.tensor([[*around[0], number, *around[1]]])).last_hidden_state[0].mean(0) for number in ids]
    return torch.stack(rows).numpy(), tokenizer


def table(module):
    return module.embedding.weight.detach().numpy()


@pytest.mark.parametrize("name", ["bert", "roberta", "mpnet", "qwen3", "t5", "modernbert", "bpe", "unigram"])
def test_a_token_is_the_mean_of_its_states_alone_in_the_model(folders, name):
    module = StaticEmbedding.from_distillation(folders[name], **PLAIN)
    vocabulary = module.tokenizer.get_vocab()
    order = sorted(vocabulary, key=vocabulary.get)
    old = transformers.AutoTokenizer.from_pretrained(folders[name]).get_vocab()
    # The padding token occurs in no text, and RoBERTa gives it a position of its own.
    some = [token for token in order[:3] + order[10:14] + order[-3:] if token not in ("[PAD]", "<pad>")]
    wanted, tokenizer = one_by_one(folders[name], [old[token] for token in some])
    np.testing.assert_allclose(table(module)[[vocabulary[token] for token in some]], wanted, atol=PACKED)
    special = set(tokenizer.all_special_tokens) - {tokenizer.pad_token, tokenizer.unk_token}
    assert special
    assert order == [token for token in sorted(old, key=old.get) if token not in special]
    assert module.base_model == folders[name]


@pytest.mark.parametrize("name", ["bert", "bpe", "unigram"])
def test_texts_become_the_same_tokens(folders, name):
    module = StaticEmbedding.from_distillation(folders[name], pca_dims=4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[name])
    for text in ("the quick brown fox", "Unknown wörds, 12 of them", ""):
        got = module.tokenizer.encode(text, add_special_tokens=False).tokens
        assert got == tokenizer.tokenize(text)
    assert len(module.preprocess(["the " * 700])["input_ids"]) >= 700
    assert module.get_embedding_dimension() == 4


def test_a_saved_model_is_as_good_as_a_checkpoint(folders, tmp_path):
    from tests.parity.test_folders import first_generation

    wanted = table(StaticEmbedding.from_distillation(folders["bert"], **PLAIN))
    SentenceTransformer(folders["bert"], device="cpu").save(str(tmp_path / "new"))
    (tmp_path / "old").mkdir()
    first_generation(folders["bert"], tmp_path / "old")
    for folder in ("new", "old"):
        got = table(StaticEmbedding.from_distillation(str(tmp_path / folder), **PLAIN))
        np.testing.assert_allclose(got, wanted, atol=PACKED)


def test_words_and_phrases_of_ones_own(folders):
    module = StaticEmbedding.from_distillation(folders["bert"], ["Penguin", "long text", "the"], **PLAIN)
    size = len(table(module))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["bert"])
    model = transformers.AutoModel.from_pretrained(folders["bert"]).eval()
    for place, word in ((size - 2, "Penguin"), (size - 1, "long text")):
        with torch.no_grad():
            want = model(**tokenizer(word, return_tensors="pt")).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(table(module)[place], want, atol=PACKED)
    ids = module.preprocess(["a penguin, a long  text", "the long text"])["input_ids"].tolist()
    assert ids.count(size - 2) == 1
    assert ids.count(size - 1) == 1


def test_a_vocabulary_instead_of_the_tokenizers(folders):
    module = StaticEmbedding.from_distillation(folders["bert"], ["fox", "the"], use_subword=False, **PLAIN)
    vocabulary = module.tokenizer.get_vocab()
    assert sorted(vocabulary) == ["[PAD]", "[UNK]", "fox", "the"]
    assert module.preprocess(["the fox is"])["input_ids"].tolist() == [
        vocabulary[token] for token in ("the", "fox", "[UNK]")
    ]


def test_tokens_that_match_a_pattern_are_left_out(folders):
    all_of_them = set(StaticEmbedding.from_distillation(folders["bert"], **PLAIN).tokenizer.get_vocab())
    pruned = StaticEmbedding.from_distillation(folders["bert"], token_remove_pattern="##|the", **PLAIN)
    gone = all_of_them - set(pruned.tokenizer.get_vocab())
    assert gone == {token for token in all_of_them if token.startswith(("##", "the"))}
    assert len(table(pruned)) == len(all_of_them) - len(gone)


def test_pooling_of_other_states(folders):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["bert"])
    model = transformers.AutoModel.from_pretrained(folders["bert"]).eval()
    with torch.no_grad():
        states = model(**tokenizer("the", return_tensors="pt")).last_hidden_state[0].numpy()
    for mode, want in (("first", states[0]), ("last", states[-1])):
        module = StaticEmbedding.from_distillation(folders["bert"], pooling=mode, **PLAIN)
        np.testing.assert_allclose(table(module)[module.tokenizer.token_to_id("the")], want, atol=PACKED)


# -- what is done with the vectors -------------------------------------------------------------------------------------


def test_principal_axes_keep_what_varies_most():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(200, 6)) * [9, 1, 5, 1, 3, 1] + 7).astype(np.float32)
    got = principal_axes(vectors, 3)
    assert got.shape == (200, 3)
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    wanted = (left * sizes)[:, :3]
    np.testing.assert_allclose(np.abs(got), np.abs(wanted), atol=FORMULA_LARGE * 10)
    assert (got[np.abs(got).argmax(0), [0, 1, 2]] > 0).all()
    whole = principal_axes(vectors, "auto")
    gaps = np.linalg.norm(whole[0] - whole[1]) - np.linalg.norm(vectors[0] - vectors[1])
    assert abs(gaps) < FORMULA_LARGE * 10
    assert principal_axes(vectors, None) is vectors


def test_more_axes_than_there_are_is_said(caplog):
    assert principal_axes(np.eye(4, dtype=np.float32), 9).shape == (4, 4)
    assert "pca_dims=9 exceeds the width 4" in caplog.text


def test_weights_rise_with_the_rank():
    sif = frequency_weights(1000, 1e-3)
    harmonic = sum(1 / rank for rank in range(2, 1002))
    assert sif[0] == pytest.approx(1e-3 / (1e-3 + 1 / 2 / harmonic))
    assert sif[-1] == pytest.approx(1e-3 / (1e-3 + 1 / 1001 / harmonic))
    for weights in (sif, frequency_weights(1000, None)):
        assert (np.diff(weights) > 0).all()
        assert (weights > 0).all()


def test_weights_are_applied_after_the_axes(folders):
    axes = table(StaticEmbedding.from_distillation(folders["bert"], pca_dims=5, apply_zipf=False))
    got = table(StaticEmbedding.from_distillation(folders["bert"], pca_dims=5))
    np.testing.assert_allclose(got, axes * frequency_weights(len(axes), 1e-4)[:, None], atol=PACKED)
    got = table(StaticEmbedding.from_distillation(folders["bert"], pca_dims=5, sif_coefficient=None))
    np.testing.assert_allclose(got, axes * frequency_weights(len(axes), None)[:, None], atol=PACKED)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8"])
def test_numbers_of_other_types(folders, kind):
    wanted = table(StaticEmbedding.from_distillation(folders["bert"], pca_dims=5))
    got = StaticEmbedding.from_distillation(folders["bert"], pca_dims=5, quantize_to=kind)
    scale = np.abs(wanted).max() / 127 if kind == "int8" else 1
    np.testing.assert_allclose(table(got) * scale, wanted, atol=scale / 2 if kind == "int8" else 1e-2)
    assert str(got.embedding.weight.dtype) == f"torch.{'float32' if kind == 'int8' else kind}"
    assert quantised(np.zeros((2, 2), np.float32), "int8").tolist() == [[0, 0], [0, 0]]


def test_a_distilled_model_is_a_model(folders, tmp_path):
    model = SentenceTransformer(
        modules=[StaticEmbedding.from_distillation(folders["unigram"], pca_dims=8), Normalize()], device="cpu"
    )
    vectors = model.encode(["the quick fox", "a dog", ""])
    model.save(str(tmp_path))
    assert (SentenceTransformer(str(tmp_path), device="cpu").encode(["the quick fox", "a dog", ""]) == vectors).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sif_coefficient": 0.0}, "sif_coefficient must lie between 0 and 1"),
        ({"sif_coefficient": 1.0}, "sif_coefficient must lie between 0 and 1"),
        ({"pca_dims": 0}, "pca_dims must be a positive number"),
        ({"pca_dims": "most"}, "pca_dims must be a positive number"),
        ({"quantize_to": "float3"}, "quantize_to must be one of"),
        ({"pooling": "middle"}, "pooling must be one of mean, last, first"),
        ({"token_remove_pattern": "["}, "is no regular expression"),
        ({"use_subword": False}, "use_subword=False needs a vocabulary"),
        ({"vocabulary": ["a", 3]}, "vocabulary must hold words, got 3"),
    ],
)
def test_unusable_arguments_are_refused_before_anything_runs(folders, options, said):
    with pytest.raises(InputError) as caught:
        StaticEmbedding.from_distillation(folders["bert"], **options)
    assert said in str(caught.value)
    assert Recipe().pooling == "mean"


def test_arguments_of_other_versions_are_dropped_with_a_warning(folders, caplog):
    StaticEmbedding.from_distillation(folders["bert"], pca_dims=4, vocabulary_quantization=3, strange=1)
    assert "does not know strange, vocabulary_quantization; dropped" in caplog.text


def test_a_model_without_a_transformer_is_refused():
    with pytest.raises(InputError, match=r"needs a transformer; the first module .*StaticEmbedding"):
        StaticEmbedding.from_distillation(str(tiny_folder("dense", "static")))


def test_arguments_of_loading_reach_the_transformer(folders, tmp_path):
    wanted = table(StaticEmbedding.from_distillation(folders["bert"], **PLAIN))
    got = StaticEmbedding.from_distillation(
        folders["bert"], **PLAIN, model_kwargs={"dtype": torch.bfloat16}, local_files_only=True, trust_remote_code=False
    )
    assert 1e-4 < np.abs(table(got) - wanted).max() < 0.2
    assert table(got).shape == (len(wanted), WIDTH)
    assert json.loads(got.tokenizer.to_str())["truncation"] is None
