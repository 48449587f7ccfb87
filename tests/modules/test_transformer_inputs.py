"""Chat messages, arguments of the processor's call, lengths by task, images."""

import logging

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.checkpoints import FLAT, PROJECTED, STRUCTURED, clip, images, llava, with_head, with_template
from tests.support import TEXTS

from fourfold import SentenceTransformer, notices
from fourfold.errors import InputError
from fourfold.modules import Transformer
from fourfold.testing import WIDTH, checkpoint


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(checkpoint("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module", params=[FLAT, STRUCTURED], ids=["flat", "structured"])
def chat(request, tmp_path_factory):
    return with_template(tmp_path_factory.mktemp("chat"), request.param)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(autouse=True)
def _afresh(monkeypatch):
    monkeypatch.setattr(notices, "_said", set())


def words(module, features):
    return [module.tokenizer.decode(row, skip_special_tokens=False) for row in features["input_ids"]]


# -- chat messages -----------------------------------------------------------------------------------------------------


def test_texts_are_rendered_by_the_template(chat):
    module = Transformer(chat)
    assert module.modalities == ["text", "message"]
    features = module.preprocess(["the text", "a"])
    wanted = module.tokenizer.apply_chat_template(
        [[{"role": "user", "content": text if module.input_formatter.message_format == "flat" else
           [{"type": "text", "text": text}]}] for text in ("the text", "a")],
        tokenize=True, return_dict=True, padding=True, return_tensors="pt",
    )  # fmt: skip
    assert features["modality"] == "message"
    for key, value in wanted.items():
        assert torch.equal(features[key], value)


def test_rendered_texts_run_packed(chat):
    module = Transformer(chat).eval()
    assert module.packed
    assert module.tokenises({})
    with torch.inference_mode():
        features = module.preprocess(TEXTS, prompt="the query ")
        padded = module(dict(features))["token_embeddings"][features["attention_mask"] == 1]
        packed = module(module.pack(module.tokenise(TEXTS, "the query ")))["token_embeddings"][0]
    torch.testing.assert_close(packed[: len(padded)], padded, rtol=0, atol=tolerances.PACKED)


def test_a_prompt_is_a_system_message(chat):
    module = Transformer(chat)
    features = module.preprocess(["a"], prompt="the query ")
    assert words(module, features)[0].startswith("< | s ##y ##s ##t ##e ##m | > the query [SEP] < | u")
    assert "prompt_length" not in features


def test_pairs_get_roles_of_their_own(chat):
    module = Transformer(chat)
    shown = words(module, module.preprocess([("the text", "a")]))[0]
    assert shown == "< | query | > the text [SEP] < | document | > a [SEP]"


def test_a_template_that_drops_a_role_refuses_pairs(tmp_path):
    folder = with_template(tmp_path, "{% for m in messages if m['role'] != 'query' %}{{ m['content'] }}{% endfor %}")
    module = Transformer(folder)
    assert module.preprocess(["a"])["input_ids"].shape == (1, 1)
    with pytest.raises(InputError, match="leaves out messages of the role 'query'"):
        module.preprocess([("a", "b")])


def test_messages_of_the_caller(chat):
    module = Transformer(chat)
    flat = module.input_formatter.message_format == "flat"
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "the text"}]
    if not flat:
        talk = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in talk]
    shown = words(module, module.preprocess([talk]))[0]
    assert shown.startswith("< | u ##s ##e ##r | > a [SEP] < | a")
    assert shown.endswith("| > the text [SEP]")


def test_variables_of_the_template_and_the_ending_of_a_cut_text(chat):
    module = Transformer(chat)
    asking = {"chat_template": {"add_generation_prompt": True}}
    assert words(module, module.preprocess(["a"], processing_kwargs=asking))[0].endswith("a [SEP] the a")
    cut = module.preprocess(["a " * 40], processing_kwargs=asking, max_length=15)
    assert words(module, cut)[0].endswith("a [SEP] the a")
    assert cut["input_ids"].shape == (1, 15)
    asking["chat_template"]["restore_suffix"] = False
    assert words(module, module.preprocess(["a " * 40], processing_kwargs=asking, max_length=15))[0].endswith("a a a")


def test_the_task_reaches_a_template_that_reads_it(tmp_path):
    module = Transformer(with_template(tmp_path, "{{ task }}:{{ messages[0]['content'] }}"))
    assert words(module, module.preprocess(["a"], task="query")) == ["query : a"]
    assert words(module, module.preprocess(["a"], task="document")) == ["document : a"]


def test_a_folder_saved_before_there_were_modalities_never_reads_messages(chat, tmp_path):
    module = Transformer(chat)
    module.save(str(tmp_path))
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    old = Transformer.load(str(tmp_path))
    assert old.modalities == ["text"]
    assert words(old, old.preprocess(["the text"])) == ["the text [SEP]"]


# -- arguments of the call ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "length"), [("query", 5), ("document", 7), (None, 128)])
def test_lengths_by_task(bert, task, length):
    module = Transformer(bert, query_length=5, document_length=7)
    long = ["a " * 300]
    assert module.preprocess(long, task=task)["input_ids"].shape == (1, length)
    assert module.tokenise(long, task=task).lengths.tolist() == [length]
    assert module.preprocess(long, task=task, max_length=9)["input_ids"].shape == (1, 9)
    over = {"text": {"max_length": 4}}
    assert module.preprocess(long, task=task, max_length=9, processing_kwargs=over)["input_ids"].shape == (1, 4)


def test_arguments_of_the_tokenizers_call(bert):
    module = Transformer(bert, processing_kwargs={"text": {"padding": "max_length", "max_length": 12}})
    assert module.preprocess(["a"])["input_ids"].shape == (1, 12)
    assert not module.tokenises({})
    own = {"text": {"padding": True, "add_special_tokens": False}}
    assert words(module, module.preprocess(["a"], processing_kwargs=own)) == ["a"]


def test_lengths_alone_are_no_reason_to_pad(bert):
    module = Transformer(bert, processing_kwargs={"text": {"max_length": 5}})
    assert module.tokenises({"processing_kwargs": {"text": {"max_length": 6}}})
    assert module.tokenise(["a " * 9]).lengths.tolist() == [5]


def test_processing_kwargs_are_saved(bert, tmp_path):
    given = {"text": {"max_length": 5}, "chat_template": {"add_generation_prompt": True}}
    Transformer(bert, processing_kwargs=given, query_length=3).save(str(tmp_path))
    again = Transformer.load(str(tmp_path))
    assert (again.processing_kwargs, again.query_length) == (given, 3)


def test_unknown_keys_are_said_and_ignored(bert, caplog):
    with caplog.at_level(logging.WARNING):
        Transformer(bert, processing_kwargs={"txet": {}}).preprocess(["a"], processing_kwargs={"odour": {}})
    assert "'txet'" in caplog.text
    assert "'odour'" in caplog.text


@pytest.mark.parametrize("bad", [-1, 1.5, True, "1"])
def test_logits_to_keep_is_a_count(bert, bad):
    with pytest.raises(InputError, match="logits_to_keep"):
        Transformer(bert).preprocess(["a"], processing_kwargs={"text": {"logits_to_keep": bad}})


def test_older_names_of_arguments(bert, caplog):
    with caplog.at_level(logging.WARNING):
        module = Transformer(
            bert, model_args={"dtype": "float16"}, tokenizer_args={"model_max_length": 9},
            config_args={"output_hidden_states": True}, cache_dir="somewhere", tokenizer_name_or_path=bert,
        )  # fmt: skip
    assert module.model.dtype == torch.float16
    assert module.max_seq_length == 9
    assert module.config.output_hidden_states
    for name in ("model_args", "tokenizer_args", "config_args", "cache_dir", "tokenizer_name_or_path"):
        assert name in caplog.text


# -- images ------------------------------------------------------------------------------------------------------------


def test_texts_and_images_in_one_space(pictures):
    module = Transformer(pictures)
    assert module.modalities == ["text", "image"]
    assert module.module_output_name == "sentence_embedding"
    assert module.get_embedding_dimension() == PROJECTED
    assert not module.packed
    features = module.preprocess(images(2))
    assert features["modality"] == "image"
    assert features["pixel_values"].shape == (2, 3, 32, 32)
    assert module(features)["sentence_embedding"].shape == (2, PROJECTED)
    assert module(module.preprocess(["a"], prompt="the "))["prompt_length"] == 2


def test_a_model_of_images_encodes_them_and_texts(pictures):
    model = SentenceTransformer(pictures, device="cpu")
    assert len(model) == 1
    rows = model.encode(images(3))
    assert rows.shape == (3, PROJECTED)
    np.testing.assert_allclose(model.encode(images(3)[1]), rows[1], rtol=0, atol=tolerances.BATCH)
    np.testing.assert_allclose(model.encode({"image": images(3)[2]}), rows[2], rtol=0, atol=tolerances.BATCH)
    assert model.encode("the text").shape == (PROJECTED,)


def test_an_image_may_be_a_file(pictures, tmp_path):
    model = SentenceTransformer(pictures, device="cpu")
    images(1)[0].save(tmp_path / "cat.png")
    np.testing.assert_array_equal(model.encode(str(tmp_path / "cat.png")), model.encode(images(1)[0]))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (["a", images(1)[0]], "one kind of input a batch"),
        ([{"image": images(1)[0], "text": "a"}], "need chat messages"),
        ([[{"role": "user", "content": "a"}]], "chat template"),
        ([np.zeros(5)], "is audio"),
    ],
)
def test_what_such_a_model_refuses(pictures, inputs, said):
    with pytest.raises(ValueError, match=said):
        Transformer(pictures).preprocess(inputs)


def test_arguments_of_the_image_processor(pictures):
    module = Transformer(pictures)
    plain, other = (module.preprocess(images(1), processing_kwargs=given)["pixel_values"] for given in
                    (None, {"image": {"do_normalize": False}}))  # fmt: skip
    assert not torch.equal(plain, other)


def test_images_in_messages(tmp_path):
    module = Transformer(llava(tmp_path)).eval()
    assert module.modalities == ["text", "image", "message"]
    one, two = images(2)
    inputs = [{"text": "the", "image": one}, "a text", two, {"image": [one, two]}]
    features = module.preprocess(inputs)
    assert features["modality"] == "message"
    assert features["num_images_per_sample"].tolist() == [1, 0, 1, 2]
    assert module(features)["token_embeddings"].shape[::2] == (4, WIDTH)


def test_feature_maps_become_rows_of_vectors():
    from fourfold.modules._forward import pick

    maps = torch.arange(24).reshape(1, 2, 3, 4)
    assert torch.equal(pick(maps, None), maps.reshape(1, 2, 12).transpose(1, 2))


# -- left padding ------------------------------------------------------------------------------------------------------


def test_causal_models_read_the_last_position(tmp_path):
    module = Transformer(with_head(tmp_path, "AutoModelForCausalLM", "qwen3"), transformer_task="text-generation")
    features = module.preprocess(["the text", "a"])
    assert features["attention_mask"][:, -1].tolist() == [1, 1]
    assert features["logits_to_keep"] == 1
    assert module(features)["causal_logits"].shape[:2] == (2, 1)
    everything = module.preprocess(["the text", "a"], processing_kwargs={"text": {"logits_to_keep": 0}})
    assert module(everything)["causal_logits"].shape[:2] == (2, 3)
    module.tokenizer.padding_side = "right"
    with pytest.raises(InputError, match="padded on the left"):
        module.preprocess(["the text", "a"])
