"""The cross encoder beside the older library's, on the same tiny folders."""

import inspect
import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from tests.parity.published import assert_same_files, loaded_in_silence
from tests.support import outcome, read_json
from tests.tolerances import PACKED

from fourfold import CrossEncoder
from fourfold.errors import InputError
from fourfold.testing import ARCHITECTURES, WIDTH, checkpoint, tiny, tiny_folder

PAIRS = [
    ("the query", "a document"),
    ("the query", "the long document text of the world, " * 4),
    ("short", ""),
    ("", "x"),
    ("a" * 200, "the world " * 100),
    ("an ünïcödé query", "with … odd 漢字 and 🙂 signs"),
]
ENCODERS = (
    "albert", "bert", "camembert", "deberta_v2", "distilbert", "electra", "modernbert", "mpnet", "roberta",
    "xlm_roberta",
)  # fmt: skip
DECODERS = tuple(name for name, made in ARCHITECTURES.items() if made.decoder and name != "t5")
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}answer:"


def both(st, folder, **options):
    return tuple(cls(str(folder), device="cpu", **options) for cls in (CrossEncoder, st.CrossEncoder))


def assert_same(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(ours, list):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
        return
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=PACKED)


@pytest.fixture(scope="module")
def one_label(st):
    return both(st, tiny_folder("cross", "bert"))


@pytest.fixture(scope="module")
def three_labels(st, tmp_path_factory):
    return both(st, checkpoint("bert", tmp_path_factory.mktemp("three"), head="labels", num_labels=3))


@pytest.fixture
def answering(tmp_path):
    """A language model whose vocabulary has the words yes and no."""
    folder = checkpoint("qwen3", tmp_path / "answering", head="causal")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"world"', '"yes"').replace('"long"', '"no"'))
    return folder


# -- scores ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("architecture", [*ENCODERS, *DECODERS])
def test_scores_of_every_architecture(st, tmp_path, architecture, labels):
    folder = checkpoint(architecture, tmp_path, head="labels", num_labels=labels)
    for dtype in (torch.float32, torch.float64):
        ours, theirs = both(st, folder, model_kwargs={"dtype": dtype})
        assert_same(ours.predict(PAIRS), theirs.predict(PAIRS))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_both_ways_in_which_modernbert_pools(st, tmp_path, pooling):
    folder = checkpoint("modernbert", tmp_path, head="labels", num_labels=1, classifier_pooling=pooling)
    ours, theirs = both(st, folder)
    assert ours[0].packed
    assert_same(ours.predict(PAIRS), theirs.predict(PAIRS))


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("false_id", [5, None])
def test_scores_by_logits(st, tmp_path, architecture, false_id):
    folder = checkpoint(architecture, tmp_path, head="causal")
    models = both(st, folder)
    for model in models:
        model[1].true_token_id, model[1].false_token_id = 30, false_id
    ours, theirs = (model.predict(PAIRS[:4], activation_fn=torch.nn.Identity()) for model in models)
    assert_same(ours, theirs)


QUERIES = ["the query that asks for a text of the world " * 4, "another long query of the text " * 5]
BESIDE = [(query, document) for query in QUERIES for document in ("", "a document", "the world " * 20, *"abcde")]


def tokens_run(model, monkeypatch, pairs):
    """The scores of pairs, and how many tokens the transformer was given for them."""
    transformer, counts = model[0], []
    real = type(transformer).pack

    def pack(self, *args, **kwargs):
        features = real(self, *args, **kwargs)
        counts.append(int(features["packing"].offsets[-1]))
        return features

    with monkeypatch.context() as patch:
        patch.setattr(type(transformer), "pack", pack)
        scores = model.predict(pairs, activation_fn=torch.nn.Identity())
    return scores, sum(counts)


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("head", ["causal", "labels"])
@pytest.mark.parametrize("order", ["by query", "mixed"])
def test_a_query_that_many_documents_share_runs_once(st, tmp_path, monkeypatch, architecture, head, order):
    folder = checkpoint(architecture, tmp_path, head=head, **({"num_labels": 2} if head == "labels" else {}))
    ours, theirs = both(st, folder)
    if head == "causal":
        ours[1].true_token_id = theirs[1].true_token_id = 30
    pairs = BESIDE if order == "by query" else [*BESIDE[::2], ("alone", "text"), *BESIDE[1::2]]
    assert ours[0].shares_prefixes()
    scores, shared = tokens_run(ours, monkeypatch, pairs)
    assert_same(scores, theirs.predict(pairs, activation_fn=torch.nn.Identity()))
    monkeypatch.setattr(type(ours[0]), "shares_prefixes", lambda self: False)
    alone, whole = tokens_run(ours, monkeypatch, pairs)
    np.testing.assert_allclose(scores, alone, atol=PACKED)
    assert shared < 0.6 * whole


def test_a_language_model_answers_yes_or_no(st, answering):
    models = both(st, answering)
    assert [repr(type(module).__name__) for module in models[0]] == [repr(type(m).__name__) for m in models[1]]
    assert models[0][1].get_config_dict() == models[1][1].get_config_dict()
    assert_same(*(model.predict(PAIRS) for model in models))


@pytest.mark.parametrize("prompt", [None, "Find what answers the query."])
@pytest.mark.parametrize("max_length", [None, 40])
def test_a_chat_template(st, answering, prompt, max_length):
    settings = read_json(answering / "tokenizer_config.json")
    (answering / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    models = both(st, answering, max_length=max_length)
    assert_same(*(model.predict(PAIRS, prompt=prompt) for model in models))
    assert_same(*(model.predict(BESIDE, prompt=prompt) for model in models))
    as_messages = [[{"role": "query", "content": q}, {"role": "document", "content": d}] for q, d in PAIRS]
    np.testing.assert_allclose(models[0].predict(as_messages), models[0].predict(PAIRS), atol=PACKED)


def test_a_classifier_with_a_chat_template(st, tmp_path):
    folder = checkpoint("qwen3", tmp_path, head="labels", num_labels=1)
    settings = read_json(folder / "tokenizer_config.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    assert_same(*(model.predict(PAIRS) for model in both(st, folder)))


def test_other_modules_may_make_the_scores(st):
    from sentence_transformers.sentence_transformer import modules as theirs

    from fourfold import modules as ours

    folder = str(tiny_folder("dense", "bert"))
    built = []
    for lib, cls in ((ours, CrossEncoder), (theirs, st.CrossEncoder)):
        torch.manual_seed(0)
        top = lib.Dense(WIDTH, 2, activation_function=torch.nn.Identity(), module_output_name="scores")
        built.append(cls(modules=[lib.Transformer(folder), lib.Pooling(WIDTH, "mean"), top], device="cpu"))
    assert built[0].num_labels == built[1].num_labels == 2
    assert_same(*(model.predict(PAIRS) for model in built))


# -- the arguments of predict ------------------------------------------------------------------------------------------

FLAGS = [
    {},
    {"convert_to_tensor": True},
    {"convert_to_numpy": False},
    {"convert_to_numpy": True, "convert_to_tensor": True},
    {"apply_softmax": True},
    {"activation_fn": torch.nn.Identity()},
    {"activation_fn": torch.nn.Tanh(), "apply_softmax": True, "convert_to_tensor": True},
    {"batch_size": 1},
    {"prompt": "query: "},
    {"nothing": 1},
]


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize(
    "inputs",
    [
        PAIRS, PAIRS[0], list(PAIRS[0]), PAIRS[:1], [list(pair) for pair in PAIRS], "one text",
        np.array(PAIRS), np.array(PAIRS[0]), np.array(PAIRS, dtype=object), tuple(PAIRS),
        np.array("one text"),
    ],
    ids=["many", "pair", "list", "one", "lists", "text", "array", "row", "objects", "tuple", "alone"],
)  # fmt: skip
def test_predict_gives_the_same(one_label, three_labels, inputs, flags):
    for pair in (one_label, three_labels):
        assert_same(*(model.predict(inputs, **flags) for model in pair))


@pytest.mark.parametrize("flags", FLAGS[:4], ids=str)
@pytest.mark.parametrize("inputs", [[], (), np.array([], dtype=object)], ids=["list", "tuple", "array"])
def test_no_inputs(one_label, inputs, flags):
    assert_same(*(model.predict(inputs, **flags) for model in one_label))


@pytest.mark.parametrize(
    ("inputs", "arguments"),
    [
        (PAIRS, {"batch_size": 0}), (["a", "b", "c"], {}), ([("a", "b", "c")], {}), ([("a", None)], {}),
        ([(1, 2)], {}), (None, {}), (3, {}), (PAIRS, {"prompt_name": "none"}),
        (PAIRS, {"pool": {}, "chunk_size": 0}),
    ],
    ids=str,
)  # fmt: skip
def test_the_same_misuse_is_refused(one_label, inputs, arguments):
    ours, theirs = (outcome(model.predict, inputs, **arguments) for model in one_label)
    assert isinstance(ours, type)
    if isinstance(theirs, type) and issubclass(theirs, ValueError):
        assert issubclass(ours, ValueError)


def test_every_member_and_argument(st):
    for name in ("predict", "rank", "set_keep_in_fp32_modules", "get_default_activation_fn", "is_singular_input"):
        ours, theirs = (inspect.signature(getattr(cls, name)) for cls in (CrossEncoder, st.CrossEncoder))
        assert list(ours.parameters) == list(theirs.parameters), name
        for key, parameter in theirs.parameters.items():
            assert ours.parameters[key].default == parameter.default, (name, key)
    assert {name for name in dir(st.CrossEncoder) if not name.startswith("_")} <= set(dir(CrossEncoder))
    theirs = set(inspect.signature(st.CrossEncoder).parameters)
    assert theirs - set(inspect.signature(CrossEncoder).parameters) <= {"args", "kwargs"}


@pytest.mark.parametrize("architecture", ["bert", "roberta", "qwen3"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("truncation", ["only_second", "only_first", "longest_first"])
def test_which_text_is_cut(st, architecture, side, truncation):
    pairs = [("the query " * 8, "a document of the world " * 40), ("short", "x"), ("", "")]
    pairs.append(("the query", "a long one " * 18))
    if truncation == "only_first":
        pairs = [pair[::-1] for pair in pairs]
    options = {"processing_kwargs": {"text": {"truncation": truncation}}}
    ours, theirs = both(st, tiny_folder("cross", architecture), max_length=60)
    for model in (ours, theirs):
        model.tokenizer.truncation_side = side
    if architecture == "qwen3":
        pairs.remove(("", ""))
    assert ours[0].tokenises(options)
    assert_same(ours.predict(pairs, **options), theirs.predict(pairs, **options))


@pytest.mark.parametrize("truncation", ["only_second", "only_first"])
@pytest.mark.parametrize("place", [0, 2])
def test_a_text_that_is_never_cut_and_too_long(st, truncation, place):
    pairs = [("x", "y"), ("z", "")]
    pairs.insert(place, ("the query of the world " * 30, "a document"))
    if truncation == "only_first":
        pairs = [pair[::-1] for pair in pairs]
    options = {"processing_kwargs": {"text": {"truncation": truncation}}}
    ours, theirs = both(st, tiny_folder("cross", "bert"), max_length=60)
    with pytest.raises(InputError, match="begins 'the query of the world"):
        ours.predict(pairs, **options)
    with pytest.raises(BaseException, match="too short"):
        theirs.predict(pairs, **options)


# -- rank --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"top_k": 2}, {"top_k": 0}, {"top_k": -1}, {"return_documents": True}], ids=str
)
def test_rank(one_label, options):
    documents = [document for _, document in PAIRS] + ["x", "x"]
    ours, theirs = (model.rank("the query", documents, **options) for model in one_label)
    assert [list(hit) for hit in ours] == [list(hit) for hit in theirs]
    assert [hit["corpus_id"] for hit in ours] == [hit["corpus_id"] for hit in theirs]
    assert [hit.get("text") for hit in ours] == [hit.get("text") for hit in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert type(one["score"]) is type(other["score"]) is float
        assert one["score"] == pytest.approx(other["score"], abs=PACKED)


def test_rank_of_nothing_and_by_what_cannot_rank(one_label, three_labels):
    assert [model.rank("a", []) for model in one_label] == [[], []]
    for model in three_labels:
        with pytest.raises(ValueError, match="label"):
            model.rank("a", ["b"])
    for model in one_label:
        with pytest.raises(TypeError):
            model.rank("a", ["b"], nothing=1)


# -- activations and older arguments -----------------------------------------------------------------------------------


def with_config(folder, copy, **keys):
    shutil.copytree(folder, copy)
    config = read_json(copy / "config.json")
    (copy / "config.json").write_text(json.dumps({**config, **keys}))
    return copy


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh"},
        {"sbert_ce_default_activation_function": "somewhere.Else"},
        {"sentence_transformers": {"version": "4.1.0"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("labels", [1, 3])
def test_activations_of_older_folders(st, tmp_path, keys, labels):
    plain = checkpoint("bert", tmp_path / "plain", head="labels", num_labels=labels)
    models = both(st, with_config(plain, tmp_path / "older", **keys))
    assert type(models[0].activation_fn) is type(models[1].activation_fn)
    assert_same(*(model.predict(PAIRS) for model in models))
    for model, name in zip(models, ("ours", "theirs"), strict=True):
        model.save(str(tmp_path / name))
    ours, theirs = (read_json(tmp_path / name / "config.json") for name in ("ours", "theirs"))
    assert ours == theirs
    settings = [read_json(tmp_path / name / "config_sentence_transformers.json") for name in ("ours", "theirs")]
    assert settings[0]["activation_fn"] == settings[1]["activation_fn"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_length": 12}, {"default_activation_function": torch.nn.Tanh()},
        {"tokenizer_args": {"model_max_length": 9}},
        {"automodel_args": {"dtype": torch.float64}}, {"config_args": {"num_labels": 1}}, {"classifier_dropout": 0.5},
        {"max_length": 12, "processor_kwargs": {"model_max_length": 20}}, {"num_labels": 1},
        {"activation_fn": torch.nn.Tanh()},
        {"prompts": {"q": "query: "}, "default_prompt_name": "q"},
    ],
    ids=str,
)  # fmt: skip
def test_constructor_arguments(st, arguments):
    models = both(st, tiny_folder("cross", "bert"), **arguments)
    assert models[0].max_seq_length == models[1].max_seq_length
    assert models[0].prompts == models[1].prompts
    assert_same(*(model.predict(PAIRS) for model in models))


def test_positional_arguments(st):
    folder = str(tiny_folder("cross", "bert"))
    models = [cls(folder, 1, 10, torch.nn.Tanh(), "cpu") for cls in (CrossEncoder, st.CrossEncoder)]
    assert models[0].max_seq_length == models[1].max_seq_length == 10
    assert_same(*(model.predict(PAIRS) for model in models))


def test_older_arguments_of_the_methods(one_label):
    ours, theirs = (
        model.predict(sentences=PAIRS, activation_fct=torch.nn.Identity(), num_workers=2) for model in one_label
    )
    assert_same(ours, theirs)
    for model in one_label:
        model.rank("a", ["b"], num_workers=1, apply_softmax=True, convert_to_numpy=False, convert_to_tensor=True)


def test_another_number_of_labels_than_the_head(st):
    for cls, said in (
        (CrossEncoder, "classifier.weight.*do not fit|do not fit.*classifier.weight"),
        (st.CrossEncoder, ""),
    ):
        with pytest.raises(RuntimeError, match=said):
            cls(str(tiny_folder("cross", "bert")), num_labels=4)


@pytest.mark.parametrize("head", [None, "masked", "labels"])
@pytest.mark.parametrize("labels", [None, 2])
def test_how_many_labels_a_checkpoint_gives(st, tmp_path, head, labels):
    options = {"num_labels": labels} if labels and head == "labels" else {}
    folder = checkpoint("bert", tmp_path, head=head, **options)
    models = both(st, folder, num_labels=labels)
    assert models[0].num_labels == models[1].num_labels
    assert models[0].predict(PAIRS).shape == models[1].predict(PAIRS).shape


# -- folders -----------------------------------------------------------------------------------------------------------


def settings_of(path):
    found = read_json(path)
    if isinstance(found, dict):
        found.pop("__version__", None)
        found.pop("transformers_version", None)
    return found


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "qwen3"])
@pytest.mark.parametrize("kind", ["labels", "causal"])
def test_folders_both_ways(st, tmp_path, caplog, architecture, kind):
    if kind == "causal" and architecture != "qwen3":
        pytest.skip("no language model that goes from left to right")
    if kind == "causal":
        folder = str(tiny_folder("cross", architecture))
    else:
        folder = str(checkpoint(architecture, tmp_path / "plain", head="labels", num_labels=2))
    ours, theirs = both(st, folder, prompts={"q": "query: "}, activation_fn=torch.nn.Tanh())
    ours.save(str(tmp_path / "ours"), create_model_card=False)
    theirs.save(str(tmp_path / "theirs"), create_model_card=False)
    assert_same_files(tmp_path / "ours", tmp_path / "theirs", settings_of)
    wanted = theirs.predict(PAIRS)
    back = loaded_in_silence(lambda: st.CrossEncoder(str(tmp_path / "ours"), device="cpu"), caplog)
    assert_same(back.predict(PAIRS), wanted)
    again = CrossEncoder(str(tmp_path / "theirs"), device="cpu")
    assert_same(again.predict(PAIRS), wanted)
    assert again.prompts == back.prompts
    assert type(again.activation_fn) is type(back.activation_fn)


@pytest.mark.parametrize("family", ["dense", "sparse"])
def test_folders_of_other_families(st, family):
    models = both(st, tiny_folder(family, "bert"))
    assert [type(module).__name__ for module in models[0]] == [type(module).__name__ for module in models[1]]
    assert models[0].prompts == models[1].prompts
    assert models[0].num_labels == models[1].num_labels


def test_cards_say_the_same(st, tmp_path):
    for labels in (1, 3):
        folder = checkpoint("bert", tmp_path / f"plain-{labels}", head="labels", num_labels=labels)
        texts = []
        for model, name in zip(both(st, folder), ("ours", "theirs"), strict=True):
            model.save(str(tmp_path / f"{name}-{labels}"))
            texts.append((tmp_path / f"{name}-{labels}" / "README.md").read_text())
        ours, theirs = (text.split("---")[1] for text in texts)
        assert ours == theirs
        titles = [
            [line for line in text.splitlines() if line.startswith("# ") and "Or" not in line][:1] for text in texts
        ]
        assert titles[0] == titles[1]
        for row in ("Model Type", "Maximum Sequence Length", "Number of Output Labels"):
            line, other = (next(some for some in text.splitlines() if f"**{row}:**" in some) for text in texts)
            assert line == other


def test_layers_that_stay_in_float32(st, tmp_path):
    folder = checkpoint("bert", tmp_path / "plain", head="labels", num_labels=1)
    options = {"model_kwargs": {"dtype": torch.bfloat16}, "keep_in_fp32_modules": ["0.model.classifier"]}
    models = both(st, folder, **options)
    for model, name in zip(models, ("ours", "theirs"), strict=True):
        model.save(str(tmp_path / name))
        saved = read_json(tmp_path / name / "config_sentence_transformers.json")
        assert saved["keep_in_fp32_modules"] == ["0.model.classifier"]
        assert model[0].model.classifier.weight.dtype == torch.bfloat16
    ours, theirs = (model.predict(PAIRS, activation_fn=torch.nn.Identity()) for model in models)
    np.testing.assert_allclose(ours, theirs, atol=3e-2)
    assert len({float(score) for score in np.round(ours, 7)}) > 1
    for names, error in (("x", ValueError), (["0.nothing"], AttributeError), (["0.model.bert"], ValueError)):
        for model in models:
            with pytest.raises(error):
                model.set_keep_in_fp32_modules(names)


def test_deprecated_properties(one_label):
    for model in one_label:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            assert model.max_length == model.max_seq_length
            assert model.default_activation_function is model.activation_fn
        assert sum(issubclass(one.category, DeprecationWarning) for one in heard) >= 2


def test_pairs_of_a_dense_model_are_tokenised_the_same(st):
    model = tiny("cross", "roberta")
    assert model[0].packed
    assert "token_type_ids" not in model.preprocess([PAIRS[0]])
