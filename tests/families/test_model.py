"""Building a model, its loading hooks, and calling it as a torch module."""

import json
import logging
from typing import ClassVar

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS, load, read_json, saved_with

from fourfold import SentenceTransformer
from fourfold.families._placement import best_device
from fourfold.modules import Dense, Normalize, Pooling, Router, StaticEmbedding, Transformer
from fourfold.testing import WIDTH, checkpoint, tiny, tiny_folder


def test_modules_are_named_by_position():
    model = tiny()
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    assert (len(model), model[0], model[-1]) == (3, model._first_module(), model._last_module())
    assert all(key.startswith("0.model.") for key in model.state_dict())
    assert isinstance(model, torch.nn.Sequential)


def test_nothing_to_build_from_is_refused():
    with pytest.raises(ValueError, match="at least one module"):
        SentenceTransformer(modules=[])
    with pytest.raises(ValueError, match="model_name_or_path or modules"):
        SentenceTransformer()


def test_only_the_name_may_be_positional():
    with pytest.raises(TypeError):
        SentenceTransformer(str(tiny_folder()), [])


def test_a_name_wins_over_modules(caplog):
    with caplog.at_level(logging.WARNING):
        model = load(tiny_folder(), modules=[StaticEmbedding.example()])
    assert isinstance(model[0], Transformer)
    assert "modules are ignored" in caplog.text


def test_a_path_object_is_a_path():
    assert SentenceTransformer(tiny_folder(), device="cpu").encode("a").shape == (WIDTH,)


def test_every_module_is_told_when_the_model_is_ready():
    told = []

    class Listening(Normalize):
        def on_model_ready(self, model):
            told.append(model)

    model = SentenceTransformer(modules=[StaticEmbedding.example(), Listening()], device="cpu")
    assert told == [model]


def test_a_model_of_another_family_is_converted(tmp_path, caplog):
    load(tiny_folder()).save(tmp_path / "m")
    file = tmp_path / "m" / "config_sentence_transformers.json"
    file.write_text(json.dumps({**read_json(file), "model_type": "CrossEncoder", "prompts": {"query": "saved"}}))
    with caplog.at_level(logging.WARNING):
        model = load(tmp_path / "m")
    assert "converting a CrossEncoder" in caplog.text
    assert [type(module) for module in model] == [Transformer, Pooling]
    assert model.prompts["query"] == ""


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (None, {"query": "saved ", "document": "", "extra": "more "}),
        ({"query": "given "}, {"query": "given ", "document": "", "extra": "more "}),
        ({"query": "", "own": "x"}, {"query": "", "document": "", "extra": "more ", "own": "x"}),
    ],
)
def test_given_prompts_win_over_saved_ones(tmp_path, given, want):
    folder = saved_with(
        tmp_path / "m", tiny_folder(), prompts={"query": "saved ", "extra": "more "}, default_prompt_name="extra"
    )
    model = load(folder, prompts=given)
    assert model.prompts == want
    assert model.default_prompt_name == "extra"
    assert load(folder, default_prompt_name="query").default_prompt_name == "query"


def test_a_default_prompt_must_exist(tmp_path):
    with pytest.raises(ValueError, match="default_prompt_name 'nothing'"):
        tiny(default_prompt_name="nothing")
    with pytest.raises(ValueError, match="default_prompt_name 'gone'"):
        load(saved_with(tmp_path / "m", tiny_folder(), default_prompt_name="gone"))


def test_its_repr_is_that_of_a_sequential():
    text = repr(tiny())
    assert text.startswith("SentenceTransformer(\n  (0): Transformer({")
    assert "  (1): Pooling({'embedding_dimension': 32, 'pooling_mode': 'mean', 'include_prompt': True})" in text


def test_older_names_warn_and_work(caplog):
    with caplog.at_level(logging.WARNING):
        model = load(tiny_folder(), tokenizer_kwargs={"model_max_length": 11})
        model.tokenize(["a"])
    assert model.max_seq_length == 11
    assert "processor_kwargs" in caplog.text
    assert "use preprocess" in caplog.text
    with pytest.warns(FutureWarning, match="use token"):
        load(tiny_folder(), use_auth_token="x")
    with pytest.raises(ValueError, match="use token"):
        load(tiny_folder(), use_auth_token="x", token="y")


def test_a_subclass_loads_its_parents_folders():
    class Mine(SentenceTransformer):
        pass

    assert Mine(str(tiny_folder()), device="cpu").encode("a").shape == (WIDTH,)


def test_the_model_can_be_pickled_and_copied():
    import copy
    import pickle

    model = tiny(prompts={"query": "q "})
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.prompts == model.prompts
        np.testing.assert_array_equal(twin.encode_query(TEXTS), model.encode_query(TEXTS))


def test_modules_may_be_any_mapping():
    model = SentenceTransformer(modules={"words": StaticEmbedding.example(), "unit": Normalize()}, device="cpu")
    assert list(model._modules) == ["words", "unit"]


@pytest.mark.parametrize("backend", ["onnxruntime", "Torch", ""])
def test_an_unknown_backend_is_refused(backend):
    with pytest.raises(ValueError, match="backend must be one of torch, onnx, openvino"):
        load(tiny_folder(), backend=backend)


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="wrong"):
        load(tiny_folder(), wrong=1)


def test_what_the_constructor_sets():
    model = load(tiny_folder(), trust_remote_code=None)
    assert model.module_kwargs == {"0": [], "1": [], "2": []}
    assert model.trust_remote_code is False
    assert model.is_hpu_graph_enabled is False
    assert model.backend == "torch"
    assert model._model_card_vars == {}
    assert model._model_card_text.startswith("---\n")
    assert tiny().module_kwargs is None
    assert tiny()._model_card_text is None


# -- what is said ------------------------------------------------------------------------------------------------------


def test_prompts_are_told(caplog):
    with caplog.at_level(logging.INFO, "fourfold"):
        tiny(prompts={"query": "q ", "other": "o "})
    assert "2 prompts: query, other" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "fourfold"):
        tiny()
    assert "prompts" not in caplog.text


def test_a_default_prompt_is_told_once(caplog):
    for _ in range(2):
        tiny(prompts={"query": "q "}, default_prompt_name="query")
    assert [r.levelname for r in caplog.records if "default prompt is 'query'" in r.message] == ["WARNING"]


def test_a_prompt_that_nobody_set_is_blank():
    assert tiny(prompts={"query": None, "own": None}).prompts == {"query": "", "document": "", "own": ""}


def test_the_chosen_device_is_told(caplog):
    with caplog.at_level(logging.INFO, "fourfold"):
        SentenceTransformer(str(tiny_folder()))
    assert f"no device given, using {best_device()}" in caplog.text


# -- keywords between modules ------------------------------------------------------------------------------------------


class Noting(Normalize):
    """Notes which keyword arguments reach it."""

    forward_kwargs: ClassVar[set[str]] = {"task"}

    def forward(self, features, **kwargs):
        self.noted = kwargs
        return super().forward(features)


def test_keywords_reach_the_modules_that_name_them():
    model = SentenceTransformer(modules=[StaticEmbedding.example(), Noting(), Normalize()], device="cpu")
    model(model.preprocess(["a"]), task="query", other=1)
    assert model[1].noted == {"task": "query"}
    assert model.get_model_kwargs() == ["task"]


def test_keywords_that_the_folder_names_reach_their_module(tmp_path):
    load(tiny_folder()).save(tmp_path / "m")
    entries = read_json(tmp_path / "m" / "modules.json")
    entries[2]["kwargs"] = ["style"]
    (tmp_path / "m" / "modules.json").write_text(json.dumps(entries))
    model = load(tmp_path / "m")
    assert model.module_kwargs == {"0": [], "1": [], "2": ["style"]}
    assert model.get_model_kwargs() == ["style"]
    noting = Noting()
    model[2] = noting
    model.encode("a", style="plain")
    assert noting.noted["style"] == "plain"
    model.save(tmp_path / "n")
    assert read_json(tmp_path / "n" / "modules.json")[2]["kwargs"] == ["style"]


def test_a_router_gets_every_keyword():
    class Routes(Router):
        def forward(self, features, **kwargs):
            self.noted = kwargs
            return super().forward(features, **kwargs)

    static = StaticEmbedding.example()
    router = Routes({"query": [Noting()], "document": [Normalize()]})
    model = SentenceTransformer(modules=[static, router], device="cpu")
    assert set(model.get_model_kwargs()) == {"task", "modality"}
    model(model.preprocess(["a"]), task="query", other=1)
    assert router.noted == {"task": "query", "other": 1}


# -- preprocess --------------------------------------------------------------------------------------------------------


def features(count):
    return {"sentence_embedding": torch.zeros(count, 3)}


class OnlyTokenize(torch.nn.Module):
    def tokenize(self, texts):
        self.got = (texts, {})
        return features(len(texts))

    def forward(self, values):
        return values


class TokenizeWithKeywords(OnlyTokenize):
    def tokenize(self, texts, **kwargs):
        self.got = (texts, kwargs)
        return features(len(texts))


class Preprocess(OnlyTokenize):
    def preprocess(self, inputs):
        self.got = (inputs, {})
        return features(len(inputs))


class PreprocessWithPrompt(OnlyTokenize):
    def preprocess(self, inputs, prompt=None):
        self.got = (inputs, {"prompt": prompt})
        return features(len(inputs))


class PreprocessWithKeywords(OnlyTokenize):
    def preprocess(self, inputs, **kwargs):
        self.got = (inputs, kwargs)
        return features(len(inputs))


@pytest.mark.parametrize(
    ("module", "want"),
    [
        (OnlyTokenize, (["q: a", ("q: b", "c")], {})),
        (TokenizeWithKeywords, (["q: a", ("q: b", "c")], {"task": "query"})),
        (Preprocess, (["q: a", ("q: b", "c")], {})),
        (PreprocessWithPrompt, (["a", ("b", "c")], {"prompt": "q: "})),
        (PreprocessWithKeywords, (["a", ("b", "c")], {"prompt": "q: ", "task": "query"})),
    ],
)
def test_a_first_module_of_any_interface(module, want):
    model = SentenceTransformer(modules=[module()], device="cpu", prompts={"query": "q: "})
    assert model.encode_query(["a", ("b", "c")]).shape == (2, 3)
    got, kwargs = model[0].got
    assert (sorted(got, key=str), kwargs) == (sorted(want[0], key=str), want[1])
    model.preprocess(["a"])
    assert model[0].got[0] == ["a"]


def test_its_own_mistakes_are_not_hidden():
    class Mistaken(torch.nn.Module):
        def preprocess(self, inputs, prompt=None, **kwargs):
            raise TypeError("got an unexpected keyword of its own")

        def tokenize(self, texts):
            return features(len(texts))

    with pytest.raises(TypeError, match="of its own"):
        SentenceTransformer(modules=[Mistaken()], device="cpu").encode("a")


def test_a_first_module_that_takes_no_inputs():
    with pytest.raises(AttributeError, match="Normalize, has neither preprocess nor tokenize"):
        SentenceTransformer(modules=[Normalize()], device="cpu").encode("a")


def test_no_inputs_have_no_features():
    assert tiny().preprocess([]) == {}


@pytest.mark.parametrize("inputs", [[{"role": "user", "content": "x"}], [torch.zeros(3)], ["a", {"image": "b"}]])
def test_inputs_of_another_modality_are_refused(inputs):
    with pytest.raises(ValueError, match="SentenceTransformer takes: text"):
        tiny().preprocess(inputs)


# -- the hooks of subclasses -------------------------------------------------------------------------------------------


class Own(SentenceTransformer):
    """Overrides every hook, and notes the calls."""

    calls: ClassVar[list[str]] = []

    def _load_default_modules(self, model_name_or_path, token, cache_folder, revision=None, **kwargs):
        self.calls.append("_load_default_modules")
        modules, names = super()._load_default_modules(model_name_or_path, token, cache_folder, revision, **kwargs)
        return [*modules, Normalize()], names

    def _load_converted_modules(self, model_name_or_path, *args, model_type=None, **kwargs):
        self.calls.append(f"_load_converted_modules {model_type}")
        return super()._load_converted_modules(model_name_or_path, *args, model_type=model_type, **kwargs)

    def _get_model_type(self, model_name_or_path, token, cache_folder, revision=None, local_files_only=False):
        self.calls.append("_get_model_type")
        return super()._get_model_type(model_name_or_path, token, cache_folder, revision, local_files_only)

    def _parse_model_config(self, model_config):
        self.calls.append("_parse_model_config")
        super()._parse_model_config(model_config)
        self.colour = model_config.get("colour", "none")

    def _get_model_config(self):
        return {**super()._get_model_config(), "colour": "green"}

    def _get_module_init_defaults(self, class_ref):
        self.calls.append(f"_get_module_init_defaults {class_ref.rpartition('.')[2]}")
        return {"include_prompt": False} if class_ref.endswith("Pooling") else {}

    def _load_module_class_from_ref(self, class_ref, model_name_or_path, trust_remote_code, revision, *args, **kwargs):
        self.calls.append(f"_load_module_class_from_ref {class_ref.rpartition('.')[2]}")
        if class_ref.endswith("Normalize"):
            return Noting
        return super()._load_module_class_from_ref(
            class_ref, model_name_or_path, trust_remote_code, revision, *args, **kwargs
        )

    def _post_init(self):
        self.calls.append("_post_init")
        self.ready = len(self)


@pytest.fixture
def own():
    Own.calls.clear()
    return Own


def test_hooks_of_a_folder(own, tmp_path):
    pooling = tmp_path / "m" / "1_Pooling" / "config.json"
    load(tiny_folder()).save(tmp_path / "m")
    config = read_json(pooling)
    del config["include_prompt"]
    pooling.write_text(json.dumps(config))
    model = own(str(tmp_path / "m"), device="cpu")
    assert (own.calls[:2], own.calls[-1]) == (["_get_model_type", "_parse_model_config"], "_post_init")
    for hook in ("_load_module_class_from_ref", "_get_module_init_defaults"):
        named = [call.partition(" ")[2] for call in own.calls if call.startswith(hook)]
        assert named == ["Transformer", "Pooling", "Normalize"]
    assert model.colour == "none"
    assert model[1].include_prompt is False
    assert type(model[2]) is Noting
    assert model.ready == 3


def test_hooks_of_a_plain_checkpoint(own, tmp_path):
    model = own(str(checkpoint("bert", tmp_path)), device="cpu")
    assert own.calls == ["_load_default_modules", "_post_init"]
    assert type(model[2]) is Normalize


def test_what_a_subclass_saves_it_reads(own, tmp_path):
    own(modules=[*tiny()][:2], device="cpu").save(tmp_path / "m")
    assert read_json(tmp_path / "m" / "config_sentence_transformers.json")["colour"] == "green"
    assert own(str(tmp_path / "m"), device="cpu").colour == "green"


def test_hooks_of_another_familys_folder(own):
    class Other(own):
        model_type = "Other"

    model = Other(str(tiny_folder()), device="cpu")
    assert own.calls == [
        "_get_model_type", "_load_converted_modules SentenceTransformer", "_load_default_modules", "_post_init",
    ]  # fmt: skip
    assert len(model) == 3


def test_default_prompts_of_a_subclass():
    class Asking(SentenceTransformer):
        _default_prompts: ClassVar[dict] = {"query": "ask: ", "document": None}

    model = Asking(modules=[*tiny()], device="cpu")
    assert model.prompts == {"query": "ask: ", "document": ""}
    assert Asking(modules=[*tiny()], device="cpu", prompts={"query": "x "}).prompts["query"] == "x "


def test_encode_of_a_subclass_sees_every_call():
    seen = []

    class Mine(SentenceTransformer):
        def encode(self, inputs, **kwargs):
            seen.append(kwargs)
            return super().encode(inputs, **kwargs)

    model = Mine(modules=[*tiny()], device="cpu", prompts={"query": "q: "})
    assert model.encode_query(["a"], batch_size=3).shape == (1, WIDTH)
    assert seen[0]["task"] == "query"
    assert seen[0]["prompt_name"] == "query"
    assert seen[0]["batch_size"] == 3


# -- as a torch module -------------------------------------------------------------------------------------------------


def test_modules_can_be_replaced_and_appended():
    model, other = tiny(), tiny(seed=1)
    before = model.encode(TEXTS)
    model[0] = other[0]
    np.testing.assert_allclose(model.encode(TEXTS), other.encode(TEXTS), atol=tolerances.BATCH)
    assert np.abs(model.encode(TEXTS) - before).max() > 1e-2
    model.append(Dense(WIDTH, 4))
    assert model.encode("a").shape == (4,)
    assert model.get_embedding_dimension() == 4
    del model[3]
    assert model.encode("a").shape == (WIDTH,)
    model[1] = Pooling(WIDTH, "cls")
    assert np.abs(model.encode(TEXTS) - other.encode(TEXTS)).max() > 1e-3


def test_encoding_leaves_every_part_in_evaluation_mode():
    model = tiny().eval()
    want = model.encode(TEXTS)
    model[0].model.encoder.train()  # with its dropout
    np.testing.assert_array_equal(model.encode(TEXTS), want)
    assert not any(module.training for module in model.modules())


def test_it_cannot_be_sliced():
    with pytest.raises(TypeError, match="cannot be sliced"):
        tiny()[:2]


def test_weights_go_from_one_model_into_another():
    model, other = tiny(), tiny(seed=1)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.encode(TEXTS), model.encode(TEXTS))


# Its tracing says so of every cached function that it meets.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize("whole", [True, False])
def test_a_compiled_model_runs_compiled(whole):
    model = tiny()
    before = model.encode(TEXTS)
    runs = []

    def backend(graph, inputs):
        def run(*args):
            runs.append(1)
            return graph(*args)

        return run

    if whole:
        assert model.compile(backend=backend) is None
    else:
        model[0].auto_model = torch.compile(model[0].auto_model, backend=backend)
    np.testing.assert_allclose(model.encode(TEXTS), before, rtol=0, atol=tolerances.PACKED)
    assert runs
    torch.compiler.reset()


def test_evaluate_makes_the_folder_and_asks_the_evaluator(tmp_path):
    model = tiny()
    folder = str(tmp_path / "a" / "b")
    assert model.evaluate(lambda *arguments: arguments, folder) == (model, folder)
    assert (tmp_path / "a" / "b").is_dir()
    assert model.evaluate(lambda *arguments: arguments) == (model, None)
