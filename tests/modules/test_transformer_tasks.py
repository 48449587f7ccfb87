"""What a checkpoint is loaded for, which output is read, and what lies beside the weights: encoders, adapters."""

import json
import logging

import numpy as np
import pytest
import torch
import transformers
from tests import tolerances
from tests.checkpoints import adapter, with_head
from tests.support import TEXTS, needs_packing

from fourfold import SentenceTransformer
from fourfold.errors import FolderError, InputError, MissingExtraError, MissingMethodError
from fourfold.modules import CLIPModel, MLMTransformer, Transformer
from fourfold.ops.splade import whole
from fourfold.testing import WIDTH, checkpoint

# What peft and older scripts call is on its way out of transformers.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing.*:FutureWarning")

PAIRS = [("the text", "a"), ("a", "the short world")]
# How an encoder-decoder spells its sizes: two layers of 32.
_WORDED = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 128,
    "pad_token_id": 0, "decoder_start_token_id": 1,
}  # fmt: skip
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
ENCODER_DECODERS = {
    "Blenderbot": _WORDED, "BlenderbotSmall": _WORDED, "LongT5": _T5, "M2M100": _WORDED, "Marian": _WORDED,
    "MT5": _T5, "Pegasus": _WORDED, "T5": _T5, "UMT5": _T5, "SwitchTransformers": {**_T5, "num_experts": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(checkpoint("bert", tmp_path_factory.mktemp("bert")))


@pytest.mark.parametrize(
    ("task", "auto", "output", "width"),
    [
        ("sequence-classification", "AutoModelForSequenceClassification", "scores", (3,)),
        ("fill-mask", "AutoModelForMaskedLM", "token_embeddings", None),
    ],
)
def test_each_task_has_its_class_and_output(tmp_path, task, auto, output, width):
    module = Transformer(with_head(tmp_path, auto, num_labels=3), transformer_task=task).eval()
    features = module.preprocess(PAIRS)
    arguments = {key: value for key, value in features.items() if torch.is_tensor(value)}
    with torch.inference_mode():
        wanted = module.model(**arguments).logits
        got = module(features)[output]
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    assert got.shape[1:] == (width or (features["input_ids"].shape[1], module.config.vocab_size))
    assert module.get_embedding_dimension() == WIDTH
    assert module.module_output_name == output
    module.save(str(tmp_path / "saved"))
    assert Transformer.load(str(tmp_path / "saved")).get_config_dict() == module.get_config_dict()


@needs_packing
def test_a_head_that_is_token_wise_runs_packed(tmp_path):
    masked = Transformer(with_head(tmp_path / "m", "AutoModelForMaskedLM"), transformer_task="fill-mask").eval()
    assert masked.packed
    with torch.inference_mode():
        features = masked.preprocess(TEXTS)
        padded = masked(dict(features))["token_embeddings"][features["attention_mask"] == 1]
        packed = whole(masked(masked.pack(masked.tokenise(TEXTS)))["token_embeddings"])[0, : len(padded)]
    scale = padded.abs().max()
    torch.testing.assert_close(packed / scale, padded / scale, rtol=0, atol=tolerances.PACKED)


def test_packing_what_is_not_made_of_texts_is_refused_with_a_word(tmp_path, caplog):
    folder = with_head(tmp_path, "AutoModel")
    with caplog.at_level(logging.WARNING):
        assert not Transformer(folder, transformer_task="retrieval", unpad_inputs=True).packed
    assert "inputs are padded" in caplog.text


@pytest.mark.parametrize(
    ("architectures", "given", "labels"),
    [
        (["BertModel"], {}, 1),
        (None, {}, 1),
        (["BertForSequenceClassification"], {}, 2),
        (["BertModel"], {"num_labels": 5}, 5),
    ],
)
def test_a_classifier_has_one_label_unless_something_says_otherwise(bert, tmp_path, architectures, given, labels):
    from fourfold.modules import _pretrained

    settings = json.loads((tmp_path.__class__(bert) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "architectures": architectures}))
    assert _pretrained.config(str(tmp_path), given, "sequence-classification").num_labels == labels


def test_a_task_needs_a_class(bert):
    with pytest.raises((ValueError, MissingExtraError), match=r"Unrecognized configuration class|transformers 5"):
        Transformer(bert, transformer_task="any-to-any")


def test_a_task_may_need_a_newer_transformers(bert, monkeypatch):
    from fourfold.modules import _pretrained

    monkeypatch.setitem(_pretrained._AUTO, "any-to-any", "AutoModelOfTheFuture")
    with pytest.raises(MissingExtraError, match="transformers 5"):
        Transformer(bert, transformer_task="any-to-any")


def test_a_retrieval_model_is_found_by_its_config(tmp_path, bert):
    from fourfold.modules import _pretrained

    config = transformers.ColPaliConfig()
    assert _pretrained._retrieval_class("x", config, {}) is transformers.ColPaliForRetrieval
    plain = transformers.BertConfig()
    plain.architectures = ["Nobody", "BertModel"]
    assert _pretrained._retrieval_class(bert, plain, {}) is transformers.BertModel
    plain.architectures, plain.auto_map = None, {"AutoModel": "x.Y"}
    assert _pretrained._retrieval_class(bert, plain, {}) is transformers.AutoModel
    plain.auto_map = None
    with pytest.raises(InputError, match="'retrieval'"):
        _pretrained._retrieval_class(bert, plain, {})


# -- outputs -----------------------------------------------------------------------------------------------------------


def by(method, output):
    return {"modality_config": {"text": {"method": method, "method_output_name": output}}, "module_output_name": "x"}


@pytest.mark.parametrize("path", [["hidden_states", -1], ["hidden_states", 1], "last_hidden_state", "pooler_output"])
def test_the_output_may_be_anywhere_in_the_models(bert, path):
    module = Transformer(bert, **by("forward", path)).eval()
    features = module.preprocess(TEXTS[:2])
    arguments = {key: value for key, value in features.items() if torch.is_tensor(value)}
    with torch.inference_mode():
        wanted = module.model(**arguments, output_hidden_states=True)
        got = module(features)["x"]
    for step in path if isinstance(path, list) else [path]:
        wanted = wanted[step]
    assert torch.equal(got, wanted)


def test_the_output_itself(bert, monkeypatch):
    module = Transformer(bert, **by("get_sums", None))
    features = module.preprocess(["the text"])
    monkeypatch.setattr(type(module.model), "get_sums", lambda self, input_ids: input_ids.sum(dim=1), raising=False)
    assert torch.equal(module(features)["x"], features["input_ids"].sum(dim=1))


def test_an_output_that_is_not_there(bert):
    module = Transformer(bert, **by("forward", "logits"))
    with pytest.raises(MissingMethodError, match="'logits'") as caught:
        module(module.preprocess(["a"]))
    assert isinstance(caught.value, AttributeError)


@pytest.mark.parametrize("method", ["get_smells", "_init_weights"])
def test_a_method_that_is_not_there(bert, method):
    module = Transformer(bert, **by(method, None))
    with pytest.raises(InputError, match=method):
        module(module.preprocess(["a"]))


def test_features_of_another_modality_cannot_be_run(bert):
    module = Transformer(bert)
    with pytest.raises(InputError, match="'image'"):
        module({**module.preprocess(["a"]), "modality": "image"})


def test_arguments_of_forward_win_over_features(bert):
    module = Transformer(bert).eval()
    one, other = (module.preprocess([text]) for text in ("the text", "a text"))
    with torch.inference_mode():
        got = module(one, input_ids=other["input_ids"])["token_embeddings"]
        assert torch.equal(got, module(other)["token_embeddings"])


@needs_packing
def test_texts_flattened_elsewhere_run_packed(bert):
    """What a collator for flash attention makes: offsets and positions, without our own layout."""
    module = Transformer(bert).eval()
    features = module.pack(module.tokenise(["the text", "a"]))
    with torch.inference_mode():
        wanted = module(dict(features))["token_embeddings"]
        del features["packing"]
        assert torch.equal(module(features)["token_embeddings"], wanted)


def test_combined_modalities_are_saved_by_name(bert, tmp_path):
    entry = {"method": "forward", "method_output_name": "last_hidden_state"}
    config = {"text": entry, ("image", "text"): entry}
    module = Transformer(bert, modality_config=config, module_output_name="token_embeddings")
    module.save(str(tmp_path))
    saved = json.loads((tmp_path / "sentence_bert_config.json").read_text())
    assert list(saved["modality_config"]) == ["text", "image+text"]
    assert Transformer.load(str(tmp_path)).modalities == ["text", ("image", "text")]


def test_an_unknown_modality_of_a_folder_is_left_out(bert, tmp_path, caplog):
    Transformer(bert).save(str(tmp_path))
    file = tmp_path / "sentence_bert_config.json"
    settings = json.loads(file.read_text())
    settings["modality_config"]["smell"] = settings["modality_config"]["text"]
    file.write_text(json.dumps(settings))
    with caplog.at_level(logging.WARNING):
        assert Transformer.load(str(tmp_path)).modalities == ["text"]
    assert "'smell'" in caplog.text


def test_an_unknown_task_of_a_folder_is_refused(tmp_path):
    checkpoint("bert", tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"transformer_task": "smelling"}')
    with pytest.raises(FolderError, match=r"sentence_bert_config\.json.*'smelling'"):
        Transformer.load(str(tmp_path))


def test_the_cache_of_keys_part_by_part():
    from fourfold.modules._pretrained import _switch_cache_off

    def made():
        config = transformers.Gemma3Config()
        config.text_config.use_cache = True
        return config

    config = made()
    _switch_cache_off(config, {})
    assert config.text_config.use_cache is False
    config = made()
    _switch_cache_off(config, {"text_config": {"use_cache": True}})
    assert config.text_config.use_cache is True


# -- encoders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODER_DECODERS)
@pytest.mark.parametrize("whole", ["Model", "ForConditionalGeneration"])
def test_of_an_encoder_decoder_the_encoder_is_loaded(tmp_path, name, whole):
    checkpoint("bert", tmp_path)
    config = getattr(transformers, f"{name}Config")(vocab_size=200, **ENCODER_DECODERS[name])
    torch.manual_seed(0)
    cls = getattr(transformers, name + whole, None) or transformers.MarianMTModel
    model = cls(config).eval()
    model.save_pretrained(tmp_path)
    module = Transformer(str(tmp_path)).eval()
    assert "Encoder" in type(module.model).__name__
    features = module.preprocess(["the text", "a"])
    arguments = {key: features[key] for key in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        wanted = model.get_encoder()(**arguments).last_hidden_state
        torch.testing.assert_close(module(dict(features))["token_embeddings"], wanted, rtol=0, atol=1e-6)
        module.save(str(tmp_path / "saved"))
        again = Transformer.load(str(tmp_path / "saved")).eval()
        torch.testing.assert_close(again(dict(features))["token_embeddings"], wanted, rtol=0, atol=1e-6)


# -- adapters ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapted(bert, tmp_path_factory):
    pytest.importorskip("peft")
    return adapter(tmp_path_factory.mktemp("adapter"), bert)


@needs_packing
def test_an_adapter_is_loaded_on_its_base_and_runs_packed(bert, adapted):
    model, base = (SentenceTransformer(folder, device="cpu") for folder in (adapted, bert))
    assert model[0].packed
    rows = model.encode(TEXTS)
    assert np.abs(rows - base.encode(TEXTS)).max() > 0.01
    model[0].unpad_inputs = False
    np.testing.assert_allclose(model.encode(TEXTS), rows, rtol=0, atol=tolerances.PACKED)


def test_of_an_adapted_model_the_adapter_is_saved(adapted, tmp_path):
    model = SentenceTransformer(adapted, device="cpu")
    model.save(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "config.json").exists()
    assert not (tmp_path / "model.safetensors").exists()
    np.testing.assert_array_equal(SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS), model.encode(TEXTS))


def test_an_adapter_without_a_tokenizer_has_its_bases(adapted, tmp_path):
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((tmp_path.__class__(adapted) / name).read_bytes())
    one, other = (Transformer(folder) for folder in (adapted, str(tmp_path)))
    assert one.tokenise(TEXTS).ids.tolist() == other.tokenise(TEXTS).ids.tolist()


def test_an_adapter_needs_peft(adapted, monkeypatch):
    from fourfold import errors

    monkeypatch.setattr(errors, "installed", lambda package: package != "peft")
    with pytest.raises(MissingExtraError, match=r'pip install "fourfold\[peft\]"'):
        Transformer(adapted)


def test_an_adapter_must_name_its_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(FolderError, match=r"adapter_config\.json: 'base_model_name_or_path'"):
        Transformer(str(tmp_path))


@needs_packing
def test_a_model_wrapped_later_runs_packed_too(bert):
    peft = pytest.importorskip("peft")
    model = SentenceTransformer(bert, device="cpu")
    settings = peft.LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
    model[0].auto_model = peft.get_peft_model(model[0].auto_model, settings)
    assert isinstance(model[0].model, peft.PeftModel)
    rows = model.encode(TEXTS)
    for asked, packs in ((False, False), (None, True)):
        model[0].unpad_inputs = asked
        assert model[0].packed is packs
        np.testing.assert_allclose(model.encode(TEXTS), rows, rtol=0, atol=tolerances.PACKED)


@needs_packing
def test_another_attention_set_later_is_padded_for(bert):
    model = SentenceTransformer(bert, device="cpu")
    rows = model.encode(TEXTS)
    model[0].model.set_attn_implementation("eager")
    assert not model[0].packed
    np.testing.assert_allclose(model.encode(TEXTS), rows, rtol=0, atol=tolerances.PACKED)


@needs_packing
def test_checkpointing_gives_the_same_gradients_packed(bert):
    def gradient(checkpointing):
        module = Transformer(bert).train()
        for dropout in module.modules():
            if isinstance(dropout, torch.nn.Dropout):
                dropout.p = 0.0
        if checkpointing:
            module.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        module(module.pack(module.tokenise(TEXTS)))["token_embeddings"].square().mean().backward()
        return module.model.embeddings.word_embeddings.weight.grad

    torch.testing.assert_close(gradient(True), gradient(False), rtol=0, atol=1e-6)
    assert gradient(True).abs().max() > 0


# -- older classes -----------------------------------------------------------------------------------------------------


def test_the_older_class_of_masked_language_models(tmp_path, caplog):
    folder = with_head(tmp_path / "from", "AutoModelForMaskedLM")
    with caplog.at_level(logging.WARNING):
        module = MLMTransformer(folder)
    assert "MLMTransformer is deprecated" in caplog.text
    assert module.transformer_task == "fill-mask"
    (tmp_path / "from" / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        module = MLMTransformer.load(folder)
    assert "deprecated" not in caplog.text
    assert module.modality_config == {"text": {"method": "forward", "method_output_name": "logits"}}
    assert (module.transformer_task, module.max_seq_length) == ("fill-mask", 9)
    assert repr(module).startswith("Transformer(")


def test_the_older_class_of_clip(tmp_path, caplog):
    from tests.checkpoints import clip

    folder = clip(tmp_path)
    with caplog.at_level(logging.WARNING):
        built = CLIPModel(folder, processor_name=folder)
    assert "CLIPModel is deprecated" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        loaded = CLIPModel.load(folder)
    assert "deprecated" not in caplog.text
    assert loaded.get_config_dict() == built.get_config_dict()
    assert loaded.modalities == ["text", "image"]
