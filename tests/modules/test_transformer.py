import json
import logging

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS, needs_packing

from fourfold.errors import FolderError, InputError
from fourfold.modules import Transformer
from fourfold.testing import checkpoint


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(checkpoint("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return str(checkpoint("qwen3", tmp_path_factory.mktemp("qwen")))


def test_features_of_texts(bert):
    module = Transformer(bert)
    features = module.preprocess(["the text", "a"])
    assert list(features) == ["input_ids", "token_type_ids", "attention_mask", "modality"]
    assert features["modality"] == "text"
    assert features["input_ids"].shape == (2, 4)
    assert features["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert {features[key].dtype for key in list(features)[:3]} == {torch.int64}
    assert module.preprocess([]) == {}


def test_features_are_those_of_the_transformers_tokenizer(bert):
    module = Transformer(bert)
    want = module.tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    got = module.preprocess(TEXTS)
    for key, value in want.items():
        assert torch.equal(got[key], value)


def test_pairs_have_segment_ids(bert):
    module = Transformer(bert)
    pairs = [("the text", "a"), ("a", "the short world")]
    want = module.tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, truncation=True, return_tensors="pt")
    got = module.preprocess(pairs)
    for key, value in want.items():
        assert torch.equal(got[key], value)
    assert got["token_type_ids"].sum() > 0


@needs_packing
def test_packed_pairs_are_padded_pairs(bert):
    module = Transformer(bert).eval()
    pairs = [("the text", "a"), ("a", "the short world"), "no pair"]
    with torch.inference_mode():
        features = module.preprocess(pairs)
        padded = module(dict(features))["token_embeddings"][features["attention_mask"] == 1]
        packed = module(module.pack(module.tokenise(pairs)))["token_embeddings"][0]
    torch.testing.assert_close(packed, padded, rtol=0, atol=tolerances.PACKED)


def test_decoders_pad_on_the_left(qwen):
    features = Transformer(qwen).preprocess(["the text", "a"])
    assert features["attention_mask"].tolist() == [[1, 1, 1], [0, 1, 1]]
    assert "token_type_ids" not in features


def test_the_prompt_is_put_in_front_and_measured(bert):
    module = Transformer(bert)
    features = module.preprocess(["text", ("text", "a")], prompt="the query ")
    assert features["prompt_length"] == 3
    want = module.preprocess(["the query text", ("the query text", "a")])
    assert torch.equal(features["input_ids"], want["input_ids"])
    assert "prompt_length" not in module.preprocess(["text"], prompt="")


def test_packed_features_say_where_each_text_begins(bert):
    module = Transformer(bert)
    features = module.pack(module.tokenise(["the text", "a"]))
    assert features["input_ids"].shape == features["position_ids"].shape == (1, 7)
    assert features["cu_seq_lens_q"].tolist() == [0, 4, 7]
    assert features["cu_seq_lens_q"].dtype == torch.int32
    assert features["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert features["max_length_q"] == 4
    assert "attention_mask" not in features


def test_positions_begin_after_a_reserved_one(tmp_path):
    module = Transformer(str(checkpoint("roberta", tmp_path)))
    features = module.pack(module.tokenise(["the", "a"]))
    assert features["position_ids"].tolist() == [[2, 3, 4, 2, 3, 4]]


# -- lengths -----------------------------------------------------------------------------------------------------------


def test_the_length_lives_in_the_tokenizer(bert):
    module = Transformer(bert)
    assert module.max_seq_length == module.tokenizer.model_max_length == 128
    module.max_seq_length = 5
    assert module.tokenizer.model_max_length == 5
    assert module.preprocess(["the " * 50])["input_ids"].shape == (1, 5)
    module.tokenizer.model_max_length = 7
    assert module.max_seq_length == 7
    assert module.preprocess(["the " * 50])["input_ids"].shape == (1, 7)
    module.max_seq_length = None
    assert module.max_seq_length is None


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({}, 128),
        ({"max_seq_length": 9}, 9),
        ({"max_seq_length": 500}, 500),
        ({"processor_kwargs": {"model_max_length": 11}}, 11),
        ({"max_seq_length": 9, "processor_kwargs": {"model_max_length": 11}}, 11),
    ],
)
def test_where_the_length_comes_from(bert, options, length):
    assert Transformer(bert, **options).max_seq_length == length


def test_the_models_positions_bound_an_unlimited_tokenizer(tmp_path):
    checkpoint("bert", tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["model_max_length"] = 10**30
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert Transformer(str(tmp_path)).max_seq_length == 128


def test_max_length_of_one_call(bert):
    assert Transformer(bert).preprocess(["the " * 50], max_length=6)["input_ids"].shape == (1, 6)


def test_lower_casing_is_put_in_front_and_saved(tmp_path):
    checkpoint("bert", tmp_path / "from")
    file = tmp_path / "from" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["normalizer"]["lowercase"] = False
    file.write_text(json.dumps(tokenizer))
    plain, lower = Transformer(str(tmp_path / "from")), Transformer(str(tmp_path / "from"), do_lower_case=True)
    assert lower.tokenise(["THE Text"]).ids.tolist() == plain.tokenise(["the text"]).ids.tolist()
    assert plain.tokenise(["THE Text"]).ids.tolist() != plain.tokenise(["the text"]).ids.tolist()
    lower.save(str(tmp_path))
    again = Transformer.load(str(tmp_path))
    assert again.tokenise(["THE Text"]).ids.tolist() == plain.tokenise(["the text"]).ids.tolist()


# -- tokenizers that change --------------------------------------------------------------------------------------------


def test_a_token_added_later_is_used(bert):
    module = Transformer(bert)
    before = module.tokenise(["the [X] text"]).ids.tolist()
    module.tokenizer.add_tokens(["[X]"])
    after = module.tokenise(["the [X] text"]).ids.tolist()
    assert after != before
    assert after == module.tokenizer("the [X] text")["input_ids"]


def test_another_tokenizer_is_used(bert, qwen):
    module = Transformer(bert)
    module.tokenise(["the"])
    module.tokenizer = Transformer(qwen).tokenizer
    assert module.tokenise(["the text"]).ids.tolist() == module.tokenizer("the text")["input_ids"]


def test_left_truncation_of_the_tokenizer_is_kept(bert):
    module = Transformer(bert, max_seq_length=4)
    module.tokenizer.truncation_side = "left"
    assert module.tokenizer.decode(module.tokenise(["a the short world"]).ids) == "[CLS] short world [SEP]"


# -- packing -----------------------------------------------------------------------------------------------------------


@needs_packing
@pytest.mark.parametrize(("asked", "packs"), [(None, True), (True, True), (False, False)])
def test_unpad_inputs_asks_and_is_saved(bert, tmp_path, asked, packs):
    module = Transformer(bert, unpad_inputs=asked)
    assert module.packed is packs
    assert module.unpad_inputs is asked
    assert module.model.config._attn_implementation == ("fourfold" if packs else "sdpa")
    module.save(str(tmp_path))
    saved = json.loads((tmp_path / "sentence_bert_config.json").read_text())
    assert saved.get("unpad_inputs", None) is asked
    assert Transformer.load(str(tmp_path)).packed is packs


@needs_packing
def test_switching_goes_both_ways(bert):
    module = Transformer(bert)
    for asked in (False, None, True, False, True):
        module.unpad_inputs = asked
        assert module.packed is (asked is not False)


def test_what_cannot_pack_says_so_when_asked(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert not Transformer(str(checkpoint("t5", tmp_path)), unpad_inputs=True).packed
    assert "padded" in caplog.text


def test_eager_attention_is_respected(bert):
    module = Transformer(bert, model_kwargs={"attn_implementation": "eager"})
    assert module.model.config._attn_implementation == "eager"
    assert not module.packed
    assert module.preprocess(["a"])["input_ids"].shape == (1, 3)


def test_a_model_used_by_itself_attends_as_always(bert):
    """Outside a packed batch the registered attention is the ordinary one, mask and all."""
    module = Transformer(bert)
    features = module.preprocess(["the short text", "a"])
    plain = Transformer(bert, unpad_inputs=False)
    arguments = {key: features[key] for key in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.inference_mode():
        ours, theirs = (m.model(**arguments).last_hidden_state for m in (module, plain))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerances.PACKED)


def test_a_saved_checkpoint_does_not_name_our_attention(bert, tmp_path):
    Transformer(bert).save(str(tmp_path))
    assert "fourfold" not in (tmp_path / "config.json").read_text()


def test_all_layers_are_given_when_asked_for(bert):
    module = Transformer(bert, config_kwargs={"output_hidden_states": True}).eval()
    padded, packed = module(module.preprocess(["a"])), module(module.pack(module.tokenise(["a"])))
    for features in (padded, packed):
        assert len(features["all_layer_embeddings"]) == 3
        assert torch.equal(features["all_layer_embeddings"][-1], features["token_embeddings"])


def test_no_cache_of_keys_unless_asked_for(qwen):
    assert Transformer(qwen).config.use_cache is False
    assert Transformer(qwen, config_kwargs={"use_cache": True}).config.use_cache is True


def test_a_deep_copy_and_a_pickle_encode_alike(bert):
    import copy
    import pickle

    module = Transformer(bert).eval()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        with torch.inference_mode():
            got, want = (m(m.pack(m.tokenise(TEXTS)))["token_embeddings"] for m in (twin, module))
        np.testing.assert_array_equal(got, want)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"transformer_task": "fill-masc"}, "transformer_task must be one of .* Did you mean 'fill-mask'"),
        ({"backend": "onyx"}, "backend must be one of .* Did you mean 'onnx'"),
        ({"modality_config": {"text": {"method": "forward"}}}, "module_output_name"),
        ({"modality_config": {"image": {"method": "forward"}}, "module_output_name": "x"}, "'method_output_name'"),
    ],
)
def test_what_is_not_supported_is_refused(bert, options, said):
    with pytest.raises(ValueError, match=said):
        Transformer(bert, **options)


def test_the_saved_settings(bert, tmp_path):
    Transformer(bert).save(str(tmp_path))
    assert json.loads((tmp_path / "sentence_bert_config.json").read_text()) == {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
    }


@pytest.mark.parametrize("name", ["roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"])
def test_older_names_of_the_settings_file(tmp_path, name):
    checkpoint("bert", tmp_path)
    (tmp_path / f"sentence_{name}_config.json").write_text('{"max_seq_length": 13, "do_lower_case": false}')
    assert Transformer.load(str(tmp_path)).max_seq_length == 13


def test_the_first_name_that_holds_something_wins(tmp_path):
    checkpoint("bert", tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text("{}")
    (tmp_path / "sentence_roberta_config.json").write_text('{"max_seq_length": 13}')
    assert Transformer.load(str(tmp_path)).max_seq_length == 13


@pytest.mark.parametrize("prefix", ["args", "kwargs"])
def test_saved_arguments_are_used_below_the_callers(tmp_path, prefix):
    checkpoint("bert", tmp_path)
    names = {"args": ("model_args", "tokenizer_args", "config_args")}.get(
        prefix, ("model_kwargs", "processor_kwargs", "config_kwargs")
    )
    settings = [{"dtype": "float16"}, {"model_max_length": 17}, {"output_hidden_states": True}]
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps(dict(zip(names, settings, strict=True))))
    module = Transformer.load(str(tmp_path))
    assert module.model.dtype == torch.float16
    assert module.max_seq_length == 17
    assert module.config.output_hidden_states
    module = Transformer.load(
        str(tmp_path), model_kwargs={"dtype": "float32"}, processor_kwargs={"model_max_length": 19}
    )
    assert module.model.dtype == torch.float32
    assert module.max_seq_length == 19


def test_a_folder_cannot_grant_trust_to_itself(tmp_path, monkeypatch):
    from fourfold.modules import _pretrained

    checkpoint("bert", tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"config_kwargs": {"trust_remote_code": true}}')
    seen = []
    plain = _pretrained.config
    monkeypatch.setattr(_pretrained, "config", lambda name, kw, task: (seen.append(kw), plain(name, kw, task))[1])
    Transformer.load(str(tmp_path))
    assert seen[0]["trust_remote_code"] is False


def test_an_unknown_key_names_file_and_nearest(tmp_path):
    checkpoint("bert", tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_lenght": 13}')
    with pytest.raises(FolderError) as caught:
        Transformer.load(str(tmp_path))
    assert isinstance(caught.value, TypeError)
    assert "sentence_bert_config.json: unknown key 'max_seq_lenght'" in str(caught.value)
    assert "Did you mean 'max_seq_length'?" in str(caught.value)


def test_a_length_below_one_is_refused_when_used(bert):
    with pytest.raises(InputError, match="at least 1"):
        Transformer(bert, max_seq_length=0).tokenise(["a"])


def test_its_repr_names_the_architecture(bert):
    assert repr(Transformer(bert)).startswith("Transformer({'transformer_task': 'feature-extraction'")
    assert "'architecture': 'BertModel'" in repr(Transformer(bert))
