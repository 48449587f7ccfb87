"""Building, saving and asking a SentenceTransformer."""

import json
import logging
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS

from fourfold import SentenceTransformer, SimilarityFunction
from fourfold.modules import Dense, Normalize, Pooling, StaticEmbedding, Transformer
from fourfold.testing import WIDTH, checkpoint, tiny, tiny_folder


def load(path, **options):
    return SentenceTransformer(str(path), device="cpu", **options)


def read(path):
    return json.loads(path.read_text())


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# -- building ----------------------------------------------------------------------------------------------------------


def test_modules_are_named_by_position():
    model = tiny()
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    assert (len(model), model[0], model[-1]) == (3, model._first_module(), model._last_module())
    assert all(key.startswith("0.model.") for key in model.state_dict())
    assert isinstance(model, torch.nn.Sequential)


def test_an_ordered_dictionary_keeps_its_names(tmp_path):
    model = SentenceTransformer(modules=OrderedDict(words=StaticEmbedding.example(), unit=Normalize()), device="cpu")
    model.save(tmp_path / "m")
    assert [entry["name"] for entry in read(tmp_path / "m" / "modules.json")] == ["words", "unit"]
    again = load(tmp_path / "m")
    assert [name for name, _ in again.named_children()] == ["words", "unit"]
    again.save(tmp_path / "n")
    assert read(tmp_path / "n" / "modules.json") == read(tmp_path / "m" / "modules.json")


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


def test_modules_after_the_first_take_its_type(tmp_path):
    folder = str(checkpoint("bert", tmp_path))
    modules = [Transformer(folder, model_kwargs={"dtype": torch.bfloat16}), Pooling(WIDTH), Dense(WIDTH, 4)]
    model = SentenceTransformer(modules=modules, device="cpu")
    assert model[2].linear.weight.dtype == torch.bfloat16
    assert model.dtype == torch.bfloat16
    assert model.encode("a").shape == (4,)


def test_every_module_is_told_when_the_model_is_ready():
    told = []

    class Listening(Normalize):
        def on_model_ready(self, model):
            told.append(model)

    model = SentenceTransformer(modules=[StaticEmbedding.example(), Listening()], device="cpu")
    assert told == [model]


# -- plain checkpoints -------------------------------------------------------------------------------------------------


def test_a_plain_checkpoint_gets_mean_pooling(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        model = load(checkpoint("bert", tmp_path))
    assert [type(module) for module in model] == [Transformer, Pooling]
    assert model[1].pooling_mode == "mean"
    assert model[1].embedding_dimension == WIDTH
    assert "no modules.json" in caplog.text
    assert model.prompts == {"query": "", "document": ""}


@pytest.mark.parametrize(
    ("architecture", "causal", "mode"),
    [("Qwen3ForCausalLM", None, "lasttoken"), ("Qwen3ForCausalLM", False, "mean"), ("Qwen3Model", None, "mean")],
)
def test_a_causal_checkpoint_gets_its_last_token(tmp_path, architecture, causal, mode):
    checkpoint("qwen3", tmp_path)
    config = read(tmp_path / "config.json")
    config["architectures"] = [architecture]
    if causal is not None:
        config["is_causal"] = causal
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load(tmp_path)[1].pooling_mode == mode


def test_a_model_of_another_family_is_converted(tmp_path, caplog):
    load(tiny_folder()).save(tmp_path / "m")
    file = tmp_path / "m" / "config_sentence_transformers.json"
    file.write_text(json.dumps({**read(file), "model_type": "CrossEncoder", "prompts": {"query": "saved"}}))
    with caplog.at_level(logging.WARNING):
        model = load(tmp_path / "m")
    assert "converting a CrossEncoder" in caplog.text
    assert [type(module) for module in model] == [Transformer, Pooling]
    assert model.prompts["query"] == ""


# -- settings ----------------------------------------------------------------------------------------------------------


def saved_with(tmp_path, **config):
    load(tiny_folder()).save(tmp_path / "m")
    file = tmp_path / "m" / "config_sentence_transformers.json"
    file.write_text(json.dumps({**read(file), **config}))
    return tmp_path / "m"


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (None, {"query": "saved ", "document": "", "extra": "more "}),
        ({"query": "given "}, {"query": "given ", "document": "", "extra": "more "}),
        ({"query": "", "own": "x"}, {"query": "", "document": "", "extra": "more ", "own": "x"}),
    ],
)
def test_given_prompts_win_over_saved_ones(tmp_path, given, want):
    folder = saved_with(tmp_path, prompts={"query": "saved ", "extra": "more "}, default_prompt_name="extra")
    model = load(folder, prompts=given)
    assert model.prompts == want
    assert model.default_prompt_name == "extra"
    assert load(folder, default_prompt_name="query").default_prompt_name == "query"


def test_a_default_prompt_must_exist(tmp_path):
    with pytest.raises(ValueError, match="default_prompt_name 'nothing'"):
        tiny(default_prompt_name="nothing")
    with pytest.raises(ValueError, match="default_prompt_name 'gone'"):
        load(saved_with(tmp_path, default_prompt_name="gone"))


@pytest.mark.parametrize(("saved", "want"), [("dot", "dot"), (None, "cosine"), ("maxsim", "cosine"), ("x", "cosine")])
def test_a_saved_similarity_is_used_if_it_is_known(tmp_path, saved, want):
    folder = saved_with(tmp_path, similarity_fn_name=saved)
    assert load(folder).similarity_fn_name == want
    assert load(folder, similarity_fn_name="euclidean").similarity_fn_name == "euclidean"


def test_a_saved_truncation_is_used(tmp_path):
    folder = saved_with(tmp_path, truncate_dim=7)
    assert load(folder).encode("a").shape == (7,)
    assert load(folder, truncate_dim=3).encode("a").shape == (3,)


def test_dimensions():
    assert tiny().get_embedding_dimension() == WIDTH
    assert tiny(truncate_dim=5).get_embedding_dimension() == 5
    assert tiny(truncate_dim=500).get_embedding_dimension() == WIDTH
    model = SentenceTransformer(modules=[StaticEmbedding.example(), Dense(8, 3), Normalize()], device="cpu")
    assert model.get_embedding_dimension() == 3
    with pytest.warns(FutureWarning, match="get_embedding_dimension"):
        assert model.get_sentence_embedding_dimension() == 3


def test_the_dimension_of_an_older_module_counts():
    class Older(Normalize):
        def get_sentence_embedding_dimension(self):
            return 99

    assert (
        SentenceTransformer(modules=[StaticEmbedding.example(), Older()], device="cpu").get_embedding_dimension() == 99
    )


def test_the_length_is_the_first_modules():
    model = tiny()
    assert model.max_seq_length == model.get_max_seq_length() == model.tokenizer.model_max_length == 128
    before = model.encode("the " * 50)
    model.max_seq_length = 6
    assert model.tokenizer.model_max_length == 6
    assert np.abs(model.encode("the " * 50) - before).max() > 1e-3
    np.testing.assert_allclose(model.encode("the " * 50), model.encode("the " * 4), atol=tolerances.BATCH)


def test_a_length_is_kept_in_the_folder(tmp_path):
    model = tiny()
    model.max_seq_length = 9
    model.save(tmp_path / "m")
    assert "max_seq_length" not in read(tmp_path / "m" / "sentence_bert_config.json")
    assert load(tmp_path / "m").max_seq_length == 9


def test_parts_of_the_model():
    model = tiny()
    assert model.transformers_model is model[0].model is model[0].auto_model
    assert model.config is model.transformers_model.config
    assert model.tokenizer is model.processor is model[0].tokenizer
    assert model.modalities == ["text"]
    assert model.supports("text")
    assert not model.supports("image")
    assert model.get_backend() == "torch"
    assert model.device == torch.device("cpu")
    assert model.get_model_kwargs() == []
    static = tiny("dense", "static")
    assert static.transformers_model is None
    assert static.config is None
    with pytest.raises(AttributeError):
        _ = static.processor


def test_the_tokenizer_can_be_replaced():
    model, other = tiny(), tiny("dense", "qwen3")
    model.tokenizer = other.tokenizer
    assert model[0].tokenizer is other.tokenizer


def test_a_model_without_parameters_is_on_the_cpu():
    model = SentenceTransformer(modules=[Normalize()], device="cpu")
    assert model.device == torch.device("cpu")
    assert model.dtype is None


def test_its_repr_is_that_of_a_sequential():
    text = repr(tiny())
    assert text.startswith("SentenceTransformer(\n  (0): Transformer({")
    assert "  (1): Pooling({'embedding_dimension': 32, 'pooling_mode': 'mean', 'include_prompt': True})" in text


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"model_kwargs": {"dtype": torch.float16}}, torch.float16),
        ({"model_kwargs": {"dtype": "bfloat16"}}, torch.bfloat16),
        ({"model_kwargs": {"torch_dtype": torch.bfloat16}}, torch.bfloat16),
        ({"dtype": torch.bfloat16}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_types_of_the_weights(options, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load(tiny_folder(), **options).dtype == dtype


def test_a_checkpoint_keeps_its_own_type(tmp_path):
    tiny().half().save(tmp_path / "m")
    model = load(tmp_path / "m")
    assert model.dtype == torch.float16
    assert model.encode("a").dtype == np.float16


# -- comparing ---------------------------------------------------------------------------------------------------------


def test_the_similarity_is_cosine_unless_set():
    model = tiny()
    assert model.similarity_fn_name == "cosine"
    model.similarity_fn_name = SimilarityFunction.DOT
    assert model.similarity_fn_name == "dot"
    model.similarity_fn_name = None
    assert model.similarity_fn_name == "cosine"
    assert SentenceTransformer.SUPPORTED_SIMILARITY_FN_NAMES == ("cosine", "dot", "euclidean", "manhattan")


@pytest.mark.parametrize("wrong", ["dot_score", "Cosine", 3, "maxsim"])
def test_unknown_similarities_are_refused_at_once(wrong):
    with pytest.raises(ValueError, match="similarity"):
        tiny(similarity_fn_name=wrong)
    model = tiny()
    with pytest.raises(ValueError, match="similarity"):
        model.similarity_fn_name = wrong


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities_are_tensors(name):
    model = tiny(similarity_fn_name=name)
    rows = model.encode(TEXTS)
    pairs = model.similarity(rows[:3], rows)
    assert type(pairs) is torch.Tensor
    assert pairs.shape == (3, len(TEXTS))
    np.testing.assert_allclose(
        pairs.diagonal(), model.similarity_pairwise(rows[:3], rows[:3]), rtol=0, atol=tolerances.PACKED
    )
    assert model.similarity(rows[0], rows[1]).shape == (1, 1)
    assert model.similarity_pairwise(rows[0], rows[1]).shape == ()
    if name in ("euclidean", "manhattan"):
        assert pairs.max() <= 0


# -- saving ------------------------------------------------------------------------------------------------------------


def test_the_files_of_a_folder(tmp_path):
    tiny(prompts={"query": "q "}).save(tmp_path / "m")
    assert sorted(content(tmp_path / "m")) == [
        "1_Pooling/config.json", "2_Normalize/config.json", "README.md", "config.json",
        "config_sentence_transformers.json", "model.safetensors", "modules.json", "sentence_bert_config.json",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    config = (tmp_path / "m" / "config_sentence_transformers.json").read_text()
    parsed = json.loads(config)
    assert config == json.dumps(parsed, indent=2, sort_keys=True)
    assert parsed["prompts"] == {"document": "", "query": "q "}
    assert parsed["model_type"] == "SentenceTransformer"
    assert parsed["similarity_fn_name"] == "cosine"
    assert parsed["default_prompt_name"] is None
    assert "truncate_dim" not in parsed
    assert read(tmp_path / "m" / "modules.json")[1] == {
        "idx": 1, "name": "1", "path": "1_Pooling",
        "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    }  # fmt: skip


def test_saving_what_was_loaded_changes_no_byte(tmp_path):
    tiny(truncate_dim=5, similarity_fn_name="dot").save(tmp_path / "m")
    before = content(tmp_path / "m")
    load(tmp_path / "m").save(tmp_path / "n")
    assert content(tmp_path / "n") == before
    load(tmp_path / "m").save(tmp_path / "m")
    assert content(tmp_path / "m") == before


def test_nothing_is_left_beside_the_folder(tmp_path):
    tiny().save(tmp_path / "m")
    tiny().save(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_saving_over_a_folder_while_its_weights_are_mapped(tmp_path):
    tiny().save(tmp_path / "m")
    model = load(tmp_path / "m")
    before = model.encode(TEXTS)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(model.encode(TEXTS), before)
    np.testing.assert_array_equal(load(tmp_path / "m").encode(TEXTS), before)


def test_a_save_that_fails_leaves_the_old_model(tmp_path):
    tiny().save(tmp_path / "m")
    before = content(tmp_path / "m")
    model = tiny(seed=1)

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    model[2].save = fail
    with pytest.raises(OSError, match="no space"):
        model.save(tmp_path / "m")
    assert content(tmp_path / "m") == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_saving_to_nowhere_does_nothing():
    assert tiny().save(None) is None


def test_save_pretrained_is_save(tmp_path):
    tiny().save_pretrained(str(tmp_path / "m"), create_model_card=False)
    assert not (tmp_path / "m" / "README.md").exists()
    assert load(tmp_path / "m").encode("a").shape == (WIDTH,)


def test_pickles_for_the_modules_that_have_weights(tmp_path):
    model = SentenceTransformer(modules=[*[*tiny()][:2], Dense(WIDTH, 4)], device="cpu")
    model.save(tmp_path / "m", safe_serialization=False)
    assert (tmp_path / "m" / "2_Dense" / "pytorch_model.bin").exists()
    assert (tmp_path / "m" / "model.safetensors").exists()
    np.testing.assert_array_equal(load(tmp_path / "m").encode(TEXTS), model.encode(TEXTS))


def test_a_module_whose_save_takes_only_a_path(tmp_path):
    class Older(Normalize):
        def save(self, output_path):
            self.save_config(output_path)

    SentenceTransformer(modules=[StaticEmbedding.example(), Older()], device="cpu").save(tmp_path / "m")
    assert (tmp_path / "m" / "1_Older" / "config.json").exists()


def test_a_second_transformer_gets_a_folder_of_its_own(tmp_path):
    SentenceTransformer(modules=[Normalize(), tiny()[0]], device="cpu").save(tmp_path / "m")
    assert [entry["path"] for entry in read(tmp_path / "m" / "modules.json")] == ["0_Normalize", "1_Transformer"]


# -- the card ----------------------------------------------------------------------------------------------------------


def test_a_new_card_says_what_the_model_is(tmp_path):
    tiny(similarity_fn_name="dot").save(tmp_path / "m", model_name="My model", train_datasets=["stsb"])
    card = (tmp_path / "m" / "README.md").read_text()
    for part in ("# My model", "- stsb", "128 tokens", "32 dimensions", "dot", "Pooling({", "sentence-similarity"):
        assert part in card


def test_a_card_that_was_loaded_is_written_back(tmp_path):
    tiny().save(tmp_path / "m")
    (tmp_path / "m" / "README.md").write_text("my own words: ünï\n", encoding="utf-8")
    load(tmp_path / "m").save(tmp_path / "n", model_name="Other")
    assert (tmp_path / "n" / "README.md").read_text(encoding="utf-8") == "my own words: ünï\n"


# -- older names -------------------------------------------------------------------------------------------------------


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
