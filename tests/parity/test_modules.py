"""The parts besides the transformer: the same numbers, settings and folders as the older library's."""

import json

import numpy as np
import pytest
import torch
from tests.support import TEXTS, wordpiece
from tests.tolerances import PACKED

from fourfold import SentenceTransformer, modules
from fourfold.modules import tokenizer as tokenizers
from fourfold.testing import WIDTH, checkpoint

WORDS = ["PADDING_TOKEN", "the", "quick", "Brown", "fox", "jumps", "over", "lazy", "dog", "text", "query", "long"]
WEIGHTS = {"the": 0.1, "fox": 2.0, "brown": 3.5, "dog": 0.7}


@pytest.fixture(scope="module")
def theirs(st):
    from sentence_transformers.sentence_transformer import modules as found

    return found


@pytest.fixture(scope="module")
def their_tokenizers(st):
    from sentence_transformers.sentence_transformer.modules import tokenizer

    return tokenizer


@pytest.fixture(scope="module")
def layered(tmp_path_factory):
    """A checkpoint whose config asks for the states of all layers."""
    folder = checkpoint("bert", tmp_path_factory.mktemp("layered") / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "output_hidden_states": True}))
    return str(folder)


def table(zero_padding=True):
    torch.manual_seed(3)
    weights = torch.randn(len(WORDS), 8)
    if zero_padding:
        weights[0] = 0
    return weights


def words(home, tokens, **options):
    return home.WordEmbeddings(tokens.WhitespaceTokenizer(WORDS, stop_words=["over"]), table(), **options)


# Each takes a library's modules, its tokenizers and a checkpoint, and gives a model's modules.
MODELS = {
    "words": lambda m, t, _: [words(m, t), m.Pooling(8)],
    "words, all poolings": lambda m, t, _: [
        words(m, t), m.Pooling(8, ("mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"))
    ],
    "words, weights": lambda m, t, _: [words(m, t), m.WordWeights(WORDS, WEIGHTS, 0.5), m.Pooling(8)],
    "words, weights, modes": lambda m, t, _: [
        words(m, t), m.WordWeights(WORDS, WEIGHTS, 0.5),
        m.Pooling(8, ("mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")),
    ],
    "words, cnn": lambda m, t, _: [words(m, t), m.CNN(8, 5, [1, 3, 5]), m.Pooling(15)],
    "words, lstm": lambda m, t, _: [words(m, t), m.LSTM(8, 6, num_layers=2), m.Pooling(12)],
    "words, lstm one way": lambda m, t, _: [words(m, t), m.LSTM(8, 6, bidirectional=False), m.Pooling(6)],
    "words, cnn, lstm, dense": lambda m, t, _: [
        words(m, t), m.WordWeights(WORDS, WEIGHTS), m.CNN(8, 5, [3]), m.LSTM(5, 4), m.Pooling(8), m.Dense(8, 3),
        m.Normalize(),
    ],
    "words cut": lambda m, t, _: [words(m, t, max_seq_length=3), m.Pooling(8)],
    "transformer's tokenizer": lambda m, t, _: [
        m.WordEmbeddings(_fast(), torch.manual_seed(4) and torch.randn(wordpiece().get_vocab_size(), 6)), m.Pooling(6)
    ],
    "bow": lambda m, t, _: [m.BoW(WORDS[1:], WEIGHTS, 0.25), m.Normalize()],
    "bow once": lambda m, t, _: [m.BoW(WORDS[1:], WEIGHTS, 0.25, False), m.Dense(11, 4)],
    "layers": lambda m, t, folder: [
        m.Transformer(folder), m.WeightedLayerPooling(WIDTH, 2, 1, torch.nn.Parameter(torch.tensor([0.5, 2.0]))),
        m.Pooling(WIDTH), m.LayerNorm(WIDTH), m.Dropout(0.3),
    ],
}  # fmt: skip


def _fast():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=wordpiece(), pad_token="[PAD]", unk_token="[UNK]")


MIXED = [
    *TEXTS,
    "Over the LAZY dog.",
    "Brown brown 'fox' fox, fox!",
    "nothing",
    "fox " * 40,
    "the dog (fox)\tover\nthe",
]


def built(library, name, home, tokens, folder, like=None):
    parts = MODELS[name](home, tokens, folder)
    if like is not None:
        for part, other in zip(parts, like, strict=True):
            part.load_state_dict(other.state_dict())
    return library.SentenceTransformer(modules=parts, device="cpu", prompts={"query": "the query "})


@pytest.mark.parametrize("name", MODELS)
def test_equal_vectors_settings_and_folders(st, theirs, their_tokenizers, layered, tmp_path, name):
    import fourfold

    old = built(st, name, theirs, their_tokenizers, layered)
    new = built(fourfold, name, modules, tokenizers, layered, like=old)
    wanted = old.encode(MIXED)
    np.testing.assert_allclose(new.encode(MIXED), wanted, atol=PACKED)
    np.testing.assert_allclose(
        new.encode(MIXED, prompt_name="query"), old.encode(MIXED, prompt_name="query"), atol=PACKED
    )
    assert new.get_embedding_dimension() == old.get_embedding_dimension()
    assert new.max_seq_length == old.max_seq_length
    for ours, their in zip(new, old, strict=True):
        assert ours.get_config_dict() == their.get_config_dict()
        assert list(ours.get_config_dict()) == list(their.get_config_dict())
        assert ours.state_dict().keys() == their.state_dict().keys()
        assert {k: p.requires_grad for k, p in ours.named_parameters()} == {
            k: p.requires_grad for k, p in their.named_parameters()
        }

    new.save(str(tmp_path / "new"))
    old.save(str(tmp_path / "old"))
    np.testing.assert_allclose(
        st.SentenceTransformer(str(tmp_path / "new"), device="cpu").encode(MIXED), wanted, atol=PACKED
    )
    again = SentenceTransformer(str(tmp_path / "old"), device="cpu")
    np.testing.assert_allclose(again.encode(MIXED), wanted, atol=PACKED)
    assert_same_files(tmp_path / "new", tmp_path / "old")


def assert_same_files(ours, theirs):
    """Every file but the model card, which has tests of its own, holds the same."""
    names, others = (
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"README.md"}
        for folder in (theirs, ours)
    )
    assert others == names
    for name in sorted(names):
        got, want = ((folder / name).read_bytes() for folder in (ours, theirs))
        if name.endswith(".json"):
            got, want = json.loads(got), json.loads(want)
            if name == "tokenizer.json":  # these two are of the last call, not of the tokenizer
                got, want = ({**spec, "truncation": None, "padding": None} for spec in (got, want))
            if "stop_words" in want:  # a set, saved in any order
                got["stop_words"], want["stop_words"] = sorted(got["stop_words"]), sorted(want["stop_words"])
        assert got == want, name


@pytest.mark.parametrize("name", MODELS)
def test_preprocess_gives_the_same_features(st, theirs, their_tokenizers, layered, name):
    import fourfold

    old = built(st, name, theirs, their_tokenizers, layered)
    new = built(fourfold, name, modules, tokenizers, layered, like=old)
    for batch in (MIXED, ["fox"], ["", "nothing"]):
        ours, wanted = new.preprocess(batch), old.preprocess(batch)
        assert ours.keys() == wanted.keys()
        for key, value in wanted.items():
            if isinstance(value, torch.Tensor):
                assert ours[key].dtype == value.dtype
                assert torch.equal(ours[key], value), key
            else:
                assert ours[key] == value
        ours, wanted = new.eval()(dict(ours)), old.eval()(dict(wanted))
        for key, value in wanted.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point() and key != "token_embeddings":
                torch.testing.assert_close(ours[key], value, atol=PACKED, rtol=PACKED)
        assert ours.keys() == wanted.keys()


@pytest.mark.parametrize("name", ["words, weights", "words, cnn", "words, lstm", "layers"])
def test_equal_gradients(st, theirs, their_tokenizers, layered, name):
    import fourfold

    found = []
    old = built(st, name, theirs, their_tokenizers, layered)
    new = built(fourfold, name, modules, tokenizers, layered, like=old)
    for model in (old, new):
        model.eval()
        features = model(model.preprocess([text for text in MIXED if "fox" in text]))
        (features["sentence_embedding"] ** 2).sum().backward()
        found.append({key: p.grad for key, p in model.named_parameters() if p.requires_grad and p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert found[0]
    for key, wanted in found[0].items():
        torch.testing.assert_close(found[1][key], wanted, atol=1e-4, rtol=1e-4)


def test_a_cnn_gives_a_text_in_company_what_the_older_library_gives_it_alone(st, theirs, their_tokenizers, layered):
    """Theirs convolves over the batch's padding, so its vectors depend on the batch unless the padding is zeros."""
    import fourfold

    def parts(m, t, _):
        return [
            m.WordEmbeddings(t.WhitespaceTokenizer(WORDS, stop_words=[]), table(zero_padding=False)),
            m.CNN(8, 5, [3, 5]),
            m.Pooling(10),
        ]

    MODELS["leak"] = parts
    try:
        old = built(st, "leak", theirs, their_tokenizers, layered)
        new = built(fourfold, "leak", modules, tokenizers, layered, like=old)
    finally:
        del MODELS["leak"]
    alone = np.stack([old.encode(text) for text in MIXED])
    np.testing.assert_allclose(new.encode(MIXED), alone, atol=PACKED)
    assert np.abs(old.encode(MIXED) - alone).max() > 100 * PACKED


@pytest.mark.parametrize(("kernels", "strides"), [([2], [1]), ([4, 2], [1, 1]), ([3], [2]), ([5, 1], [3, 3])])
def test_a_cnn_that_shortens_texts_gives_what_the_older_library_gives_a_text_alone(
    st, theirs, their_tokenizers, kernels, strides
):
    torch.manual_seed(0)
    part = theirs.CNN(8, 5, kernels, strides)
    width = 5 * len(kernels)
    old = st.SentenceTransformer(modules=[words(theirs, their_tokenizers), part, theirs.Pooling(width)], device="cpu")
    ours = modules.CNN(8, 5, kernels, strides)
    ours.load_state_dict(part.state_dict())
    new = SentenceTransformer(modules=[words(modules, tokenizers), ours, modules.Pooling(width)], device="cpu")
    texts = [text for text in MIXED if len(old.tokenizer.tokenize(text)) > 3]
    assert len(texts) > 3
    np.testing.assert_allclose(new.encode(texts), np.stack([old.encode(text) for text in texts]), atol=PACKED)


def test_kernels_that_disagree_fail_alike(theirs):
    features = {"token_embeddings": torch.ones(1, 4, 8), "attention_mask": torch.ones(1, 4)}
    for home in (theirs, modules):
        with pytest.raises(RuntimeError):
            home.CNN(8, 2, [1, 2])(dict(features))


def test_cls_pooling_of_words_fails_alike(st, theirs, their_tokenizers):
    old = st.SentenceTransformer(modules=[words(theirs, their_tokenizers), theirs.Pooling(8, "cls")], device="cpu")
    new = SentenceTransformer(modules=[words(modules, tokenizers), modules.Pooling(8, "cls")], device="cpu")
    for model in (old, new):
        with pytest.raises(TypeError):
            model.encode(["fox"])


# -- word tokenizers ---------------------------------------------------------------------------------------------------

VOCABULARY = [
    "new_york", "new_york_city", "New_Delhi", "york", "new", "New", "is", "the", "City", "a__b", "a_b_c_d_e_f", "a_b",
    "b_c_d", "_a", "a_", "_", "x.", "n't", "'s", "do", "dog", "Ünï", "b", "!x", "city_.", ",_the",
]  # fmt: skip
PIECES = [*VOCABULARY, *(word.replace("_", " ") for word in VOCABULARY), ",", ".", "...", "'", "(", "--", "don't", "A"]


def random_texts(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        some = rng.choice(PIECES, rng.integers(0, 9))
        cased = [[str, str.upper, str.lower, str.title][rng.integers(4)](piece) for piece in some]
        yield "".join(
            piece + rng.choice([" ", "  ", "", "\t", "\xa0"], p=[0.7, 0.1, 0.1, 0.05, 0.05]) for piece in cased
        )


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("stop_words", [[], ["the", "is", "new_york", "x"], None])
@pytest.mark.parametrize("kind", ["WhitespaceTokenizer", "PhraseTokenizer"])
def test_word_tokenizers_give_the_same_ids(their_tokenizers, tmp_path, kind, stop_words, lower):
    options = {} if stop_words is None else {"stop_words": stop_words}
    old = getattr(their_tokenizers, kind)(VOCABULARY, do_lower_case=lower, **options)
    new = getattr(tokenizers, kind)(VOCABULARY, do_lower_case=lower, **options)
    texts = list(random_texts(1500))
    assert sum(map(len, map(old.tokenize, texts))) > 1500
    for text in texts:
        assert new.tokenize(text) == old.tokenize(text), text
    assert new.get_vocab() == old.get_vocab()
    new.save(str(tmp_path))
    loaded = getattr(their_tokenizers, kind).load(str(tmp_path))
    old.save(str(tmp_path))
    again = getattr(tokenizers, kind).load(str(tmp_path))
    for text in texts[:300]:
        assert loaded.tokenize(text) == again.tokenize(text) == old.tokenize(text)


@pytest.mark.parametrize("options", [{"ngram_separator": "-"}, {"max_ngram_length": 2}, {"ngram_separator": "__"}])
def test_phrases_by_other_rules(their_tokenizers, options):
    vocabulary = [word.replace("_", options.get("ngram_separator", "_")) for word in VOCABULARY]
    old = their_tokenizers.PhraseTokenizer(vocabulary, stop_words=[], **options)
    new = tokenizers.PhraseTokenizer(vocabulary, stop_words=[], **options)
    for text in random_texts(500):
        assert new.tokenize(text) == old.tokenize(text), text
    assert (new.ngram_lookup, new.ngram_lengths) == (old.ngram_lookup, old.ngram_lengths)


def test_of_a_word_that_occurs_twice_the_later_place_counts_and_saving_keeps_it(their_tokenizers, tmp_path):
    """Theirs saves each word once, so that all ids after a repeated word are others when its folder is read."""
    vocabulary = ["fox", "dog", "fox", "cat"]
    old = their_tokenizers.WhitespaceTokenizer(vocabulary)
    new = tokenizers.WhitespaceTokenizer(vocabulary)
    assert new.tokenize("fox dog cat") == old.tokenize("fox dog cat") == [2, 1, 3]
    new.save(str(tmp_path))
    assert tokenizers.WhitespaceTokenizer.load(str(tmp_path)).tokenize("fox dog cat") == [2, 1, 3]
    assert their_tokenizers.WhitespaceTokenizer.load(str(tmp_path)).tokenize("fox dog cat") == [2, 1, 3]
    old.save(str(tmp_path))
    assert their_tokenizers.WhitespaceTokenizer.load(str(tmp_path)).tokenize("fox dog cat") != [2, 1, 3]


def test_the_stop_words_are_the_same(their_tokenizers):
    assert sorted(tokenizers.ENGLISH_STOP_WORDS) == sorted(their_tokenizers.ENGLISH_STOP_WORDS)


def test_a_tokenizer_of_transformers_gives_the_same_ids(their_tokenizers, tmp_path):
    old = their_tokenizers.TransformersTokenizerWrapper(_fast())
    new = tokenizers.TransformersTokenizerWrapper(_fast())
    packed = new.pack(MIXED)
    for row, text in enumerate(MIXED):
        assert new.tokenize(text) == old.tokenize(text)
        assert packed.ids[packed.offsets[row] : packed.offsets[row + 1]].tolist() == old.tokenize(text)
    new.save(str(tmp_path))
    assert their_tokenizers.TransformersTokenizerWrapper.load(str(tmp_path)).tokenize("the fox") == old.tokenize(
        "the fox"
    )
    assert tokenizers.TransformersTokenizerWrapper.load(str(tmp_path)).tokenize("the fox") == old.tokenize("the fox")


@pytest.mark.parametrize("kind", ["PhraseTokenizer", "WhitespaceTokenizer"])
def test_folders_with_either_tokenizer_load_both_ways(st, theirs, their_tokenizers, tmp_path, kind):
    def part(home, tokens):
        return home.WordEmbeddings(getattr(tokens, kind)(VOCABULARY), torch.eye(len(VOCABULARY)))

    texts = list(random_texts(50))
    part(modules, tokenizers).save(str(tmp_path / "new"))
    (tmp_path / "old").mkdir()
    part(theirs, their_tokenizers).save(str(tmp_path / "old"))
    wanted = part(theirs, their_tokenizers).preprocess(texts)["input_ids"]
    assert torch.equal(theirs.WordEmbeddings.load(str(tmp_path / "new")).preprocess(texts)["input_ids"], wanted)
    assert torch.equal(modules.WordEmbeddings.load(str(tmp_path / "old")).preprocess(texts)["input_ids"], wanted)
    assert_same_files(tmp_path / "new", tmp_path / "old")


# -- files of vectors --------------------------------------------------------------------------------------------------

FILES = {
    "glove": "fox 1 2\ndog 3 4\nthe 5 6\n",
    "word2vec": "3 2\nfox 1 2.5\ndog 3 -4e-3\nfox 5 6\n",
    "bad lines": "fox 1 2\nshort 1\nlong 1 2 3\n. . . 1 2\ndog 3 4 \n",
    "accents": "émigré 1 2\n漢字 3 4\n",
}


@pytest.mark.parametrize("content", FILES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("most", [None, 1, 2])
def test_files_of_vectors_read_alike(theirs, tmp_path, content, packed, most):
    import gzip

    path = tmp_path / ("vectors.txt.gz" if packed else "vectors.txt")
    with gzip.open(path, "wb") if packed else path.open("wb") as file:
        file.write(FILES[content].encode())
    old = theirs.WordEmbeddings.from_text_file(str(path), max_vocab_size=most)
    new = modules.WordEmbeddings.from_text_file(str(path), max_vocab_size=most)
    assert new.tokenizer.get_vocab() == old.tokenizer.get_vocab()
    assert torch.equal(new.emb_layer.weight, old.emb_layer.weight)
    assert new.get_config_dict() == old.get_config_dict()


# -- model2vec ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("weights", [None, "float32", "float64"])
@pytest.mark.parametrize("mapped", [False, True])
def test_models_of_model2vec_read_alike(theirs, tmp_path, kind, weights, mapped):
    model2vec = pytest.importorskip("model2vec")
    rng = np.random.default_rng(0)
    size = wordpiece().get_vocab_size()
    rows = rng.normal(size=(size // 2 if mapped else size, 8)).astype(kind)
    factors = None if weights is None and not mapped else rng.random(size).astype(weights or "float32")
    mapping = rng.integers(0, len(rows), size) if mapped else None
    made = model2vec.StaticModel(rows, wordpiece(), config={}, weights=factors, token_mapping=mapping)
    made.save_pretrained(tmp_path)
    old = theirs.StaticEmbedding.from_model2vec(str(tmp_path))
    new = modules.StaticEmbedding.from_model2vec(str(tmp_path))
    assert new.embedding.weight.dtype == old.embedding.weight.dtype
    torch.testing.assert_close(new.embedding.weight, old.embedding.weight)
    assert new.base_model == old.base_model
    for key, value in old.preprocess(TEXTS).items():
        assert torch.equal(new.preprocess(TEXTS)[key], value)
