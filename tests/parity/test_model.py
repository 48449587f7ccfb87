"""Member by member: the dense class beside the older library's, on the same tiny folders."""

import copy
import inspect
import logging
import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.support import TEXTS, hub_cache, outcome, saved_with
from tests.tolerances import PACKED

from fourfold import SentenceTransformer, notices
from fourfold.testing import checkpoint, tiny, tiny_folder

ARCHITECTURES = ("bert", "qwen3", "mpnet", "static")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def pair(st, request):
    folder = str(tiny_folder("dense", request.param))
    return tuple(cls(folder, device="cpu") for cls in (SentenceTransformer, st.SentenceTransformer))


@pytest.fixture(scope="module")
def classes(st):
    return SentenceTransformer, st.SentenceTransformer


# -- members -----------------------------------------------------------------------------------------------------------


def test_every_public_member_is_there(st, classes):
    ours, theirs = classes
    public = {name for name in dir(theirs) if not name.startswith("_")} - set(dir(torch.nn.Sequential))
    # Training is not there yet.
    assert public - set(dir(ours)) <= {"fit", "old_fit"}
    assert issubclass(ours, torch.nn.Sequential)


METHODS = (
    "save", "save_pretrained", "get_max_seq_length", "evaluate", "tokenize", "preprocess", "get_model_kwargs", "merge",
    "gradient_checkpointing_enable", "get_backend", "supports", "is_singular_input", "compile", "to", "cpu", "cuda",
    "load_adapter", "add_adapter", "set_adapter", "disable_adapters", "enable_adapters", "active_adapters",
    "active_adapter", "get_adapter_state_dict", "delete_adapter", "has_peft_compatible_model",
    "check_peft_compatible_model", "clear_placement_cache", "load", "get_sentence_features",
    "get_sentence_embedding_dimension", "get_embedding_dimension", "truncate_embeddings", "similarity",
    "truncate_sentence_embeddings", "set_pooling_include_prompt", "similarity_pairwise", "_first_module",
    "_last_module", "_get_model_type", "_get_model_config", "_parse_model_config", "_get_module_init_defaults",
    "_load_module_class_from_ref", "_post_init", "_push_to_hub_usage_tip",
)  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_the_same_arguments(classes, name):
    def arguments(cls):
        parameters = inspect.signature(getattr(cls, name)).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    ours, theirs = map(arguments, classes)
    if name != "merge":  # whose default values are torch's
        assert ours == theirs
    assert [p[0] for p in ours] == [p[0] for p in theirs]


def test_the_constructor_takes_the_same_arguments(classes):
    ours, theirs = (inspect.signature(cls).parameters for cls in classes)
    assert ours.keys() - theirs.keys() == {"dtype"}
    for name, parameter in theirs.items():
        assert (ours[name].kind, ours[name].default) == (parameter.kind, parameter.default), name


@pytest.mark.parametrize("value", ["model_type", "default_huggingface_organization", "SUPPORTED_SIMILARITY_FN_NAMES"])
def test_class_attributes(classes, value):
    ours, theirs = classes
    assert getattr(ours, value) == getattr(theirs, value)
    assert ours._default_prompts == theirs._default_prompts


@pytest.mark.parametrize(
    "name",
    ["prompts", "default_prompt_name", "module_kwargs", "backend", "trust_remote_code", "is_hpu_graph_enabled",
     "max_seq_length", "device", "dtype", "modalities", "truncate_dim", "similarity_fn_name", "_no_split_modules",
     "_keys_to_ignore_on_save", "training", "_model_card_vars"],
)  # fmt: skip
def test_attributes(pair, name):
    ours, theirs = (getattr(model, name) for model in pair)
    assert (dict(ours), list(ours)) == (dict(theirs), list(theirs)) if isinstance(theirs, dict) else ours == theirs


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("get_max_seq_length", ()), ("get_model_kwargs", ()), ("get_backend", ()), ("get_embedding_dimension", ()),
     ("has_peft_compatible_model", ()), ("check_peft_compatible_model", ()), ("active_adapters", ()),
     ("active_adapter", ()), ("enable_adapters", ()), ("disable_adapters", ()), ("set_adapter", ("x",)),
     ("delete_adapter", ("x",)), ("supports", ("text",)), ("supports", ("image",)), ("supports", (("image", "text"),)),
     ("is_singular_input", ("a",)), ("is_singular_input", (["a"],)), ("is_singular_input", (("a", "b"),)),
     ("is_singular_input", ([{"role": "user", "content": "x"}],)), ("is_singular_input", (np.array(["a"]),)),
     ("preprocess", ([],)), ("preprocess", ([3],)), ("preprocess", ([{"role": "user", "content": "x"}],)),
     ("preprocess", ([torch.zeros(3)],)), ("get_sentence_features", (1,)), ("__getitem__", (9,)),
     ("__getitem__", (slice(2),)), ("clear_placement_cache", ()), ("set_pooling_include_prompt", (True,))],
)  # fmt: skip
def test_calls(pair, name, arguments):
    ours, theirs = (outcome(getattr(model, name), *arguments) for model in pair)
    # Ours says what the input is, where the tokenizer of static embeddings says what it is not.
    assert ours == theirs or (name, ours, theirs) == ("preprocess", ValueError, TypeError)


def test_what_it_looks_like(pair):
    ours, theirs = pair
    assert repr(ours) == repr(theirs)
    assert len(ours) == len(theirs)
    assert [name for name, _ in ours.named_children()] == [name for name, _ in theirs.named_children()]


def test_its_parts(pair):
    for name in ("tokenizer", "transformers_model", "config"):
        ours, theirs = (outcome(getattr, model, name) for model in pair)
        assert type(ours) is type(theirs)
    ours, theirs = (outcome(getattr, model, "processor") for model in pair)
    assert type(ours) is type(theirs)
    assert pair[0]._first_module() is pair[0][0]
    assert pair[0]._last_module() is pair[0][-1]


def test_weights_go_both_ways(st, pair):
    ours, theirs = pair
    assert list(ours.state_dict()) == list(theirs.state_dict())
    twin = copy.deepcopy(ours)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1)
    other = copy.deepcopy(theirs)
    other.load_state_dict(twin.state_dict())
    np.testing.assert_allclose(other.encode(TEXTS), twin.encode(TEXTS), rtol=0, atol=PACKED)
    twin.load_state_dict(theirs.state_dict())
    np.testing.assert_allclose(twin.encode(TEXTS), theirs.encode(TEXTS), rtol=0, atol=PACKED)


def test_copies(pair):
    for twin in (copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))):
        ours, theirs = (twin(model) for model in pair)
        np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), rtol=0, atol=PACKED)


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_casts(pair, cast):
    twins = [copy.deepcopy(model) for model in pair]
    ours, theirs = (getattr(model, cast)().encode(TEXTS) for model in twins)
    assert ours.dtype == theirs.dtype
    known = np.isfinite(theirs).all(1)  # there, half of nothing divided by its length is not a number
    assert np.isfinite(ours).all()
    assert np.abs(ours.astype(float) - theirs)[known].max() < 0.01 * max(1, np.abs(theirs[known]).max())


@pytest.mark.parametrize("value", [7, None])
def test_another_length(pair, value):
    twins = [copy.deepcopy(model) for model in pair]
    ours, theirs = (outcome(setattr, model, "max_seq_length", value) for model in twins)
    assert ours == theirs
    if value is not None:
        ours, theirs = (model.max_seq_length for model in twins)
        assert ours == theirs
        np.testing.assert_allclose(*(model.encode(TEXTS) for model in twins), rtol=0, atol=PACKED)


def test_evaluate(pair, tmp_path):
    for i, model in enumerate(pair):
        folder = str(tmp_path / str(i) / "deep")
        assert model.evaluate(lambda *arguments: arguments, folder) == (model, folder)
        assert (tmp_path / str(i) / "deep").is_dir()


def test_collating_examples(pair):
    examples = [SimpleNamespace(texts=["a", "text of the world"], label=i) for i in range(3)]
    (ours, labels), (theirs, other) = (model.smart_batching_collate(examples) for model in pair)
    assert torch.equal(labels, other)
    for one, two in zip(ours, theirs, strict=True):
        assert one.keys() == two.keys()
        assert torch.equal(one["input_ids"], two["input_ids"])


# -- building ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"prompts": {"query": "q "}}, {"prompts": {"query": ""}}, {"prompts": {"query": None, "own": "x"}},
     {"default_prompt_name": "extra"}, {"default_prompt_name": "nobody"}, {"similarity_fn_name": "euclidean"},
     {"similarity_fn_name": "maxsim"}, {"similarity_fn_name": "dot_score"}, {"truncate_dim": 4}, {"backend": "nothing"},
     {"wrong": 1}, {"modules": []}, {"trust_remote_code": 0}, {"tokenizer_kwargs": {"model_max_length": 9}},
     {"processor_kwargs": {"model_max_length": 9}}, {"model_kwargs": {"dtype": "float16"}},
     {"tokenizer_kwargs": {"model_max_length": 9}, "processor_kwargs": {"model_max_length": 8}},
     {"config_kwargs": {"hidden_dropout_prob": 0.4}}, {"token": "x", "use_auth_token": "y"}],
)  # fmt: skip
def test_constructor_arguments(classes, tmp_path, options):
    saved = {"prompts": {"query": "saved ", "extra": "more "}, "default_prompt_name": "query", "truncate_dim": 20}
    folder = saved_with(tmp_path / "m", tiny_folder(), similarity_fn_name="dot", **saved)
    ours, theirs = (outcome(cls, str(folder), device="cpu", **options) for cls in classes)
    if isinstance(theirs, type):
        assert ours is theirs
        return
    for name in ("prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim", "max_seq_length", "dtype",
                 "trust_remote_code"):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.config.hidden_dropout_prob == theirs.config.hidden_dropout_prob


@pytest.mark.parametrize("name", ["no/such/folder", "./nowhere", "pyproject.toml", "nobody/no-such-model"])
def test_names_that_lead_nowhere(classes, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")

    def kind(cls):
        try:
            cls(name, cache_folder=str(tmp_path / "cache"), device="cpu")
        except Exception as error:
            known = (NotADirectoryError, FileNotFoundError, OSError)
            return next(kind for kind in known if isinstance(error, kind))

    assert issubclass(kind(classes[0]), kind(classes[1]))


def test_a_hub_name_in_the_cache(classes, tmp_path):
    cache = hub_cache(tmp_path, "sentence-transformers/tiny-thing", tiny_folder())
    ours, theirs = (cls("tiny-thing", cache_folder=cache, device="cpu") for cls in classes)
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), rtol=0, atol=PACKED)


@pytest.mark.parametrize(
    "name", ["hkunlp/instructor-base", "hkunlp/instructor-xl", "HKUNLP/instructor-large", "me/my-Instructor", "me/x"]
)
def test_instructor_models(classes, tmp_path, monkeypatch, caplog, name):
    monkeypatch.chdir(tmp_path)
    tiny().save(tmp_path / name)
    warned = []
    for cls in classes:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            model = cls(name, device="cpu")
        warned.append((model[1].include_prompt, "include_prompt" in caplog.text))
    assert warned[0] == warned[1]


def test_another_familys_folder(classes, tmp_path):
    folder = saved_with(tmp_path / "m", tiny_folder(), model_type="SparseEncoder", prompts={"query": "x"})
    ours, theirs = (cls(str(folder), device="cpu") for cls in classes)
    assert repr(ours) == repr(theirs)
    assert ours.prompts == theirs.prompts
    assert dict(ours.module_kwargs) == dict(theirs.module_kwargs)


# -- what is said ------------------------------------------------------------------------------------------------------


def said(caplog, function):
    """Return the levels of the messages of one library, and the categories of the warnings."""
    caplog.clear()
    with warnings.catch_warnings(record=True) as told, caplog.at_level(logging.INFO):
        warnings.simplefilter("always")
        function()
    levels = [r.levelname for r in caplog.records if r.name.startswith(("fourfold", "sentence_transformers"))]
    kinds = {w.category for w in told if "PyTorch" not in str(w.message) and "/transformers/" not in w.filename}
    return levels, kinds & {FutureWarning, DeprecationWarning}


@pytest.mark.parametrize(
    ("what", "once"),
    [
        (lambda cls, folder: cls(folder), False),
        (lambda cls, folder: cls(folder, device="cpu", prompts={"query": "q "}), False),
        (lambda cls, folder: cls(folder, device="cpu", default_prompt_name="query"), True),
        (lambda cls, folder: cls(folder, device="cpu", modules=[1]), False),
        (lambda cls, folder: cls(folder, device="cpu").get_sentence_embedding_dimension(), False),
        (lambda cls, folder: cls(folder, device="cpu", use_auth_token="x"), False),
        (lambda cls, folder: cls(folder, device="cpu").encode("a", prompt="p", prompt_name="query"), False),
        (lambda cls, folder: cls.load(folder), False),
    ],
)
def test_messages(classes, caplog, what, once):
    folder = str(tiny_folder())
    notices._said.clear()
    ours, theirs = (said(caplog, lambda cls=cls: what(cls, folder)) for cls in classes)
    # Ours does not say which folder it loads: the caller said so.
    count = {level: theirs[0].count(level) for level in ("WARNING", "ERROR")}
    assert {level: ours[0].count(level) for level in count} == count or once
    assert ours[1] == theirs[1]


# -- adapters ----------------------------------------------------------------------------------------------------------


def test_adapters(classes, tmp_path):
    peft = pytest.importorskip("peft")
    results = []
    for cls in classes:
        model = cls(str(tiny_folder()), device="cpu")
        torch.manual_seed(0)
        model.add_adapter(peft.LoraConfig(target_modules=["query"], r=2, init_lora_weights=False), "one")
        rows = [model.encode(TEXTS)]
        model.disable_adapters()
        rows.append(model.encode(TEXTS))
        model.enable_adapters()
        rows.append(model.encode(TEXTS))
        results.append((rows, model.active_adapters(), list(model.get_adapter_state_dict("one"))))
        model.save(str(tmp_path / cls.__module__))
    (ours, *others), (theirs, *wanted) = results
    assert others == wanted
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=PACKED)
    for written in classes:
        for reader in classes:
            again = reader(str(tmp_path / written.__module__), device="cpu")
            np.testing.assert_allclose(again.encode(TEXTS), theirs[0], rtol=0, atol=PACKED)


def test_merged_models(classes, tmp_path):
    pytest.importorskip("mergekit")
    folders = [str(tiny_folder(seed=seed)) for seed in range(3)]
    for method, options in (
        ("linear", {"parameters": {"weight": [0.2, 0.3, 0.5]}}),
        ("ties", {"base_model": folders[0], "parameters": {"density": 0.5}}),
        ("model_stock", {"base_model": folders[0]}),
    ):
        ours, theirs = (cls.merge(folders, method, **options) for cls in classes)
        for (name, tensor), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            assert torch.equal(tensor, other), (method, name)


def test_a_plain_checkpoint(classes, tmp_path):
    folder = str(checkpoint("bert", tmp_path))
    ours, theirs = (cls(folder, device="cpu") for cls in classes)
    assert repr(ours) == repr(theirs)
    assert ours.module_kwargs == theirs.module_kwargs == {}
