"""Every flag of SentenceTransformer.encode, and everything a caller may hand it."""

import contextlib
import io
import logging
import math

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS, named, whole_words

from fourfold import SentenceTransformer
from fourfold.modules import Normalize, Pooling, StaticEmbedding, Transformer
from fourfold.testing import WIDTH, checkpoint, tiny, tiny_folder

N = len(TEXTS)


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def rows(model):
    return model.encode(TEXTS)


def close(got, want, atol=tolerances.BATCH):
    np.testing.assert_allclose(np.asarray(got, np.float32), np.asarray(want, np.float32), rtol=0, atol=atol)


# -- forms of the result -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numpy", "tensor", "kind"),
    [(True, False, np.ndarray), (True, True, torch.Tensor), (False, True, torch.Tensor), (False, False, list)],
)
def test_flags_choose_the_form(model, rows, numpy, tensor, kind):
    flags = {"convert_to_numpy": numpy, "convert_to_tensor": tensor}
    got = model.encode(TEXTS, **flags)
    assert type(got) is kind
    assert len(got) == N
    close(torch.stack(got) if kind is list else got, rows)
    if kind is list:
        assert all(type(row) is torch.Tensor and row.shape == (WIDTH,) for row in got)
    else:
        assert got.shape == (N, WIDTH)
    assert str(got[0].dtype).endswith("float32")
    one = model.encode(TEXTS[0], **flags)
    assert type(one) is (np.ndarray if kind is np.ndarray else torch.Tensor)
    assert one.shape == (WIDTH,)
    close(one, rows[0])
    assert len(model.encode(TEXTS[:1], **flags)) == 1


@pytest.mark.parametrize("empty", [[], (), np.array([], dtype=object), np.array([], dtype=str)], ids=named)
@pytest.mark.parametrize("options", [{}, {"precision": "binary"}, {"normalize_embeddings": True}, {"truncate_dim": 3}])
def test_an_empty_batch(model, empty, options):
    got = model.encode(empty, **options)
    assert type(got) is np.ndarray
    assert got.shape == (0,)
    assert got.dtype == np.float64
    got = model.encode(empty, convert_to_tensor=True, **options)
    assert type(got) is torch.Tensor
    assert (got.shape, got.dtype) == ((0,), torch.float32)
    assert model.encode(empty, convert_to_numpy=False, **options) == []


def test_arrays_can_be_written_to_and_share_no_memory_with_the_model(model):
    got = model.encode(TEXTS)
    got[:] = 0
    assert model.encode(TEXTS).any()
    assert got.flags.c_contiguous


def test_tensors_are_inference_tensors(model):
    for got in (model.encode(TEXTS, convert_to_tensor=True), model.encode(TEXTS[0], convert_to_tensor=True)):
        assert got.is_inference()
        assert not got.requires_grad
        with pytest.raises(RuntimeError):
            got.requires_grad_()


def test_gradients_flow_through_the_model_itself(model):
    features = model.preprocess(TEXTS)
    model(features)["sentence_embedding"].sum().backward()
    assert next(model.parameters()).grad is not None
    model.zero_grad()


@pytest.mark.parametrize(("dtype", "array"), [(torch.float16, np.float16), (torch.bfloat16, np.float32)])
def test_half_precision_models(rows, dtype, array):
    model = tiny().to(dtype)
    got = model.encode(TEXTS)
    assert got.dtype == array
    assert model.encode(TEXTS, convert_to_tensor=True).dtype == dtype
    assert model.encode(TEXTS, convert_to_numpy=False)[0].dtype == dtype
    assert model.encode(TEXTS[0]).dtype == array
    assert model.encode(TEXTS, normalize_embeddings=True).dtype == array
    cosines = (got.astype(np.float32) * rows).sum(1) / np.linalg.norm(got.astype(np.float32), axis=1)
    assert cosines.min() > tolerances.BFLOAT_COSINE


def test_float64_models(rows):
    got = tiny().double().encode(TEXTS)
    assert got.dtype == np.float64
    close(got, rows, tolerances.PACKED)


# -- inputs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [tuple, np.array, lambda t: np.array(t, dtype=object)], ids=["tuple", "array", "objects"]
)
def test_batches_of_any_form(model, rows, make):
    close(model.encode(make(TEXTS)), rows)


def test_a_tuple_of_two_is_a_batch_and_a_list_of_pairs_is_pairs(model):
    assert model.encode(("a", "the text")).shape == (2, WIDTH)
    pairs = model.encode([("a", "the text"), ["short", "long"]])
    assert pairs.shape == (2, WIDTH)
    assert np.abs(pairs[0] - model.encode("a")).max() > 1e-3
    with torch.inference_mode():
        want = model(model.preprocess([("a", "the text")]))["sentence_embedding"]
    close(pairs[:1], want, tolerances.PACKED)


def test_pairs_and_texts_may_be_mixed(model):
    got = model.encode(["a", ("a", "the text"), "short"])
    close(got[[0, 2]], model.encode(["a", "short"]))
    close(got[1:2], model.encode([("a", "the text")]))


def test_texts_of_dictionaries(model):
    close(model.encode([{"text": "a"}, "the text"]), model.encode(["a", "the text"]))


@pytest.mark.parametrize(
    "bad",
    [None, 3, math.nan, b"bytes", 2.5, True, ["a", "b", "c"], {"x": 1}, {"a"}, np.array([1.0]), object()],
    ids=named,
)
def test_inputs_that_are_no_texts_are_refused_with_their_place(model, bad):
    with pytest.raises(ValueError, match=f"position 2: {type(bad).__name__}"):
        model.encode(["fine", "fine", bad])


@pytest.mark.parametrize("bad", [None, 3, b"bytes", {"a", "b"}, (text for text in "ab"), np.array([1.0])], ids=named)
def test_single_inputs_that_are_no_texts_are_refused(model, bad):
    with pytest.raises(ValueError, match="Unsupported input type"):
        model.encode(bad)


def test_a_data_frames_missing_text_is_told_by_its_place(model):
    texts = ["a"] * 5000
    texts[4321] = math.nan
    with pytest.raises(ValueError, match="float") as caught:
        model.encode(texts)
    assert "nan" in str(caught.value)


def test_lone_surrogates(model):
    got = model.encode(["the \ud800 text", "a"])
    close(got[0], model.encode("the \ufffd text"))


def test_text_that_looks_like_an_image_stays_text(model):
    texts = ["https://example.org/cat.jpg", "data:image/png;base64,AAAA", "/etc/hosts.png"]
    assert model.encode(texts).shape == (3, WIDTH)


def test_a_text_of_five_megabytes_is_its_beginning(model):
    book = "the short text of a world " * 200_000
    close(model.encode(book), model.encode(book[:5000]))


def test_control_characters_and_nothing_but_blanks(model):
    texts = ["\0", "\n\t ", "\u200b", "\ufeff", "e\u0301", "🙂" * 50, "x" * 3000, "-" * 3000]
    got = model.encode(texts)
    assert np.isfinite(got).all()
    close(got[1], model.encode(""))


def test_the_callers_list_is_not_changed(model):
    texts = ["b", "a", ("c", "d")]
    model.encode(texts, prompt="the ")
    assert texts == ["b", "a", ("c", "d")]


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_the_batch_size_changes_nothing(model, rows, size):
    close(model.encode(TEXTS, batch_size=size), rows)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_size_below_one_is_refused(model, size):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {size}"):
        model.encode(TEXTS, batch_size=size)
    with pytest.raises(ValueError, match="batch_size"):
        model.encode([], batch_size=size)


def test_many_windows_come_back_in_order(model):
    static = tiny("dense", "static")
    texts = [str(i) for i in range(20_000)]
    got = static.encode(texts)
    for i in (0, 1, 2047, 2048, 2049, 10_240, 19_999):
        close(got[i], static.encode(texts[i]))


def test_the_result_is_allocated_once(model, monkeypatch):
    shapes, plain = [], torch.empty

    def empty(*shape, **options):
        shapes.append(shape[0])
        return plain(*shape, **options)

    monkeypatch.setattr(torch, "empty", empty)
    got = model.encode(TEXTS * 20, batch_size=1)
    assert [shape for shape in shapes if tuple(shape) == got.shape] == [got.shape]
    assert not got.flags.owndata  # a view of that tensor


# -- truncation and normalisation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 5, WIDTH, 1000])
def test_truncation_keeps_the_first_numbers(model, rows, dim):
    got = model.encode(TEXTS, truncate_dim=dim)
    close(got, rows[:, :dim])


@pytest.mark.parametrize(("dim", "width"), [(0, 0), (-2, WIDTH - 2)])
def test_truncation_follows_the_rules_of_slices(model, dim, width):
    assert model.encode(TEXTS, truncate_dim=dim).shape == (N, width)


def test_normalisation_comes_after_truncation(model, rows):
    got = model.encode(TEXTS, truncate_dim=5, normalize_embeddings=True)
    close(np.linalg.norm(got, axis=1), np.ones(N))
    close(got, rows[:, :5] / np.linalg.norm(rows[:, :5], axis=1, keepdims=True))
    alone = model.encode(TEXTS, truncate_dim=5)
    assert np.linalg.norm(alone, axis=1).max() < 0.99


def test_normalising_zeros_gives_zeros():
    assert (
        not SentenceTransformer(modules=[StaticEmbedding.example()], device="cpu")
        .encode("", normalize_embeddings=True)
        .any()
    )


def test_the_call_wins_over_the_model(rows):
    model = tiny(truncate_dim=6)
    assert model.encode(TEXTS).shape == (N, 6)
    assert model.encode(TEXTS, truncate_dim=4).shape == (N, 4)
    assert model.encode(TEXTS, truncate_dim=None).shape == (N, 6)
    with model.truncate_embeddings(3):
        assert model.encode(TEXTS).shape == (N, 3)
        assert model.get_embedding_dimension() == 3
    assert model.truncate_dim == 6
    with contextlib.suppress(RuntimeError), model.truncate_embeddings(None):
        assert model.encode(TEXTS).shape == (N, WIDTH)
        raise RuntimeError
    assert model.truncate_dim == 6


# -- precision ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "dtype", "width"),
    [("int8", "int8", WIDTH), ("uint8", "uint8", WIDTH), ("binary", "int8", 4), ("ubinary", "uint8", 4)],
)
@pytest.mark.filterwarnings("ignore")
def test_precisions(model, precision, dtype, width):
    texts = TEXTS * 20
    got = model.encode(texts, precision=precision)
    assert (got.dtype, got.shape) == (np.dtype(dtype), (len(texts), width))
    tensor = model.encode(texts, precision=precision, convert_to_tensor=True)
    assert (tensor.dtype, tensor.device.type) == (getattr(torch, dtype), "cpu")
    np.testing.assert_array_equal(tensor, got)
    parts = model.encode(texts, precision=precision, convert_to_numpy=False)
    assert type(parts) is list
    assert parts[0].dtype == getattr(torch, dtype)


@pytest.mark.parametrize("precision", [None, "float32"])
def test_float32_is_no_change(model, rows, precision):
    close(model.encode(TEXTS, precision=precision), rows, tolerances.SAME)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_one_vector_has_no_range(model, precision):
    for one in ("a text", ["a text"]):
        with pytest.raises(ValueError, match="range"):
            model.encode(one, precision=precision)


def test_one_vector_has_bits(model, rows):
    np.testing.assert_array_equal(model.encode(TEXTS[0], precision="ubinary"), np.packbits(rows[0] > 0))


@pytest.mark.parametrize("precision", ["float16", "int4", ""])
def test_unknown_precisions_are_refused(model, precision):
    with pytest.raises(ValueError, match="precision must be one of"):
        model.encode(TEXTS, precision=precision)
    with pytest.raises(ValueError, match="precision"):
        model.encode([], precision=precision)


def test_precision_of_token_vectors_shares_its_ranges(model):
    parts = model.encode(TEXTS, output_value="token_embeddings", precision="int8")
    whole = model.encode(TEXTS, output_value="token_embeddings")
    assert [part.shape for part in parts] == [part.shape for part in whole]
    assert parts[0].dtype == np.int8
    flat = torch.cat(whole).numpy()
    levels = (flat - flat.min(0)) / ((flat.max(0) - flat.min(0)) / 255)
    assert np.abs(np.concatenate(parts) + 128.0 - np.floor(levels)).max() <= 1


# -- other outputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "qwen3", "mpnet"])
def test_token_vectors_have_no_padding(name):
    model = tiny("dense", name)
    parts = model.encode(TEXTS, output_value="token_embeddings")
    assert type(parts) is list
    lengths = [len(ids) for ids in model.tokenizer(TEXTS, truncation=True)["input_ids"]]
    assert [tuple(part.shape) for part in parts] == [(n, WIDTH) for n in lengths]
    for text, part in zip(TEXTS, parts, strict=True):
        alone = model.encode(text, output_value="token_embeddings")
        close(alone, part, tolerances.PACKED)


def test_token_vectors_are_neither_normalised_nor_truncated(model):
    part = model.encode("the text", output_value="token_embeddings", truncate_dim=3, normalize_embeddings=True)
    assert part.shape == (4, WIDTH)
    assert np.abs(np.linalg.norm(part, axis=1) - 1).max() > 0.01


def test_keeping_one_token_matrix_keeps_no_batch(model):
    part = model.encode(TEXTS, output_value="token_embeddings")[2]
    assert part.untyped_storage().nbytes() == part.numel() * part.element_size()


def test_all_features(model):
    got = model.encode(TEXTS, output_value=None)
    assert type(got) is list
    keys = ["input_ids", "token_type_ids", "attention_mask", "modality", "token_embeddings", "sentence_embedding"]
    for row, text in zip(got, TEXTS, strict=True):
        assert set(row) == set(keys)
        assert row["modality"] == "text"
        assert row["token_embeddings"].shape == (*row["input_ids"].shape, WIDTH)
        assert (
            row["input_ids"][row["attention_mask"] == 1].tolist() == model.tokenizer(text, truncation=True)["input_ids"]
        )
    one = model.encode(TEXTS[0], output_value=None)
    assert set(one) == set(keys)
    close(one["sentence_embedding"], got[0]["sentence_embedding"], tolerances.PACKED)


def test_all_features_are_truncated_but_not_normalised(model):
    folder = str(tiny_folder())
    bare = SentenceTransformer(modules=list(SentenceTransformer(folder, device="cpu"))[:2], device="cpu")
    row = bare.encode("the text", output_value=None, truncate_dim=4, normalize_embeddings=True)
    close(row["sentence_embedding"], bare.encode("the text")[:4], tolerances.PACKED)


def test_a_prompt_is_among_the_features(model):
    assert model.encode("text", output_value=None, prompt="the query ")["prompt_length"] == 3


def test_another_feature_by_name(model):
    masks = model.encode(["a", "the text"], output_value="attention_mask")
    assert [mask.sum().item() for mask in masks] == [3, 4]


def test_an_unknown_feature_is_a_key_error(model):
    with pytest.raises(KeyError, match="no_such_feature"):
        model.encode(TEXTS, output_value="no_such_feature")


# -- keywords ----------------------------------------------------------------------------------------------------------


def test_unknown_keywords_are_refused(model):
    with pytest.raises(ValueError, match=r"\['normalise', 'wrong'\].*'processing_kwargs', 'task'"):
        model.encode(TEXTS, normalise=True, wrong=1)
    with pytest.raises(ValueError, match="unknown keyword"):
        model.encode([], wrong=1)


def test_task_and_processing_kwargs_are_always_known(model, rows):
    close(model.encode(TEXTS, task="query"), rows)
    close(model.encode(TEXTS, processing_kwargs={}), rows)


def test_the_older_name_of_inputs(model, rows, caplog):
    with caplog.at_level(logging.WARNING):
        close(model.encode(sentences=TEXTS), rows)
        close(model.encode_query(sentences=TEXTS), rows)
    assert caplog.text.count("sentences=") >= 1


def test_arguments_may_be_positional(model):
    got = model.encode(TEXTS, None, "the ", 4, False, "sentence_embedding", "float32", False, True)
    assert type(got) is torch.Tensor
    close(got, model.encode(TEXTS, prompt="the "))
    for method in (model.encode_query, model.encode_document):
        close(method(TEXTS, None, "the "), got)
        with pytest.raises(TypeError):
            method(TEXTS, task="query")


# -- prompts -----------------------------------------------------------------------------------------------------------

PROMPTS = {"query": "query ", "passage": "text "}


def encoded(model, prompt):
    return model.encode([prompt + text for text in TEXTS])


@pytest.mark.parametrize(
    ("default", "options", "want"),
    [
        (None, {}, ""),
        (None, {"prompt_name": "query"}, "query "),
        (None, {"prompt": "own "}, "own "),
        (None, {"prompt": "own ", "prompt_name": "query"}, "own "),
        ("query", {}, "query "),
        ("query", {"prompt": ""}, ""),
        ("query", {"prompt_name": "passage"}, "text "),
        ("query", {"prompt_name": "document"}, ""),
    ],
)
def test_prompts_of_encode(default, options, want):
    model = tiny(prompts=PROMPTS, default_prompt_name=default)
    close(model.encode(TEXTS, **options), encoded(tiny(), want))


@pytest.mark.parametrize(
    ("method", "prompts", "options", "want"),
    [
        ("encode_query", PROMPTS, {}, "query "),
        ("encode_query", {}, {}, ""),
        ("encode_query", PROMPTS, {"prompt": "own "}, "own "),
        ("encode_query", PROMPTS, {"prompt_name": "passage"}, "text "),
        ("encode_query", PROMPTS, {"prompt": ""}, ""),
        ("encode_document", PROMPTS, {}, ""),  # the blank document prompt exists, so passage is never picked
        ("encode_document", {"document": "world "}, {}, "world "),
        ("encode_document", PROMPTS, {"prompt_name": "passage"}, "text "),
    ],
)
def test_prompts_of_queries_and_documents(method, prompts, options, want):
    model = tiny(prompts=prompts, default_prompt_name="query")
    close(getattr(model, method)(TEXTS, **options), encoded(tiny(), want))


def test_deleting_the_blank_prompt_reaches_the_next_name():
    model = tiny(prompts={"passage": "text ", "corpus": "world "})
    del model.prompts["document"]
    close(model.encode_document(TEXTS), encoded(tiny(), "text "))
    del model.prompts["passage"]
    close(model.encode_document(TEXTS), encoded(tiny(), "world "))


def test_prompts_can_be_edited_at_any_time():
    model = tiny()
    model.prompts = {"x": "the "}
    close(model.encode(TEXTS, prompt_name="x"), encoded(tiny(), "the "))
    model.prompts["x"] = "a "
    close(model.encode(TEXTS, prompt_name="x"), encoded(tiny(), "a "))


def test_an_unknown_prompt_is_refused(model):
    for method in (model.encode, model.encode_query):
        with pytest.raises(ValueError, match="'nothing' is not among the prompts"):
            method(TEXTS, prompt_name="nothing")


def test_pairs_have_the_prompt_before_their_first_text(model):
    close(model.encode([("a", "b")], prompt="the "), model.encode([("the a", "b")]))


def test_the_prompts_tokens_can_be_left_out_of_the_mean(tmp_path):
    folder = str(checkpoint("bert", tmp_path))
    model = SentenceTransformer(modules=[Transformer(folder), Pooling(WIDTH)], device="cpu")
    counted = model.encode(TEXTS, prompt="the query ")
    model.set_pooling_include_prompt(False)
    assert model[1].include_prompt is False
    got = model.encode(TEXTS, prompt="the query ")
    assert np.abs(got - counted).max() > 1e-3
    tokens = model.encode(TEXTS, prompt="the query ", output_value="token_embeddings")
    close(got, np.stack([part[3:].mean(0) for part in tokens]), tolerances.PACKED)
    model[0].unpad_inputs = False
    close(model.encode(TEXTS, prompt="the query "), got, tolerances.PACKED)


# -- how it works ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "task"), [("encode_query", "query"), ("encode_document", "document")])
def test_queries_and_documents_go_through_encode_with_keywords(method, task):
    calls = []

    class Spy(SentenceTransformer):
        def encode(self, *args, **kwargs):
            calls.append((args, kwargs))
            return super().encode(*args, **kwargs)

    model = Spy(modules=list(tiny()), device="cpu", prompts={"query": "q ", "document": "d "})
    getattr(model, method)(TEXTS, batch_size=4, normalize_embeddings=True)
    args, kwargs = calls[0]
    assert args == ()
    assert kwargs["inputs"] is TEXTS
    assert kwargs["task"] == task
    assert kwargs["prompt_name"] == task
    assert kwargs["batch_size"] == 4
    assert kwargs["normalize_embeddings"] is True


def test_training_mode_ends():
    model = tiny().train()
    before = model.encode(TEXTS)
    assert not model.training
    assert not any(module.training for module in model.modules())
    close(before, tiny().encode(TEXTS))


def test_moving_by_device_stays():
    model = tiny()
    model.encode(TEXTS, device="cpu")
    assert model.device.type == "cpu"


@pytest.mark.parametrize(("level", "shown"), [("INFO", True), ("DEBUG", True), ("WARNING", False), ("ERROR", False)])
def test_the_bar_follows_the_log_level(model, level, shown):
    logger = logging.getLogger("fourfold")
    before = logger.level
    out = io.StringIO()
    try:
        logger.setLevel(level)
        with contextlib.redirect_stderr(out):
            model.encode(TEXTS)
    finally:
        logger.setLevel(before)
    assert (f"{N}/{N}" in out.getvalue()) is shown


@pytest.mark.parametrize("asked", [True, False])
def test_the_bar_can_be_asked_for(model, asked):
    out = io.StringIO()
    with contextlib.redirect_stderr(out):
        model.encode(TEXTS, show_progress_bar=asked)
    assert ("Encoding" in out.getvalue()) is asked


def test_memory_that_ends_halves_the_batch_and_goes_on(rows):
    model = tiny()
    plain, failed = model[0].forward, []

    def forward(features, **kwargs):
        if features["input_ids"].numel() > 60:
            failed.append(1)
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return plain(features, **kwargs)

    model[0].forward = forward
    close(model.encode(TEXTS), rows)
    assert failed


def test_other_errors_of_the_model_are_raised():
    model = tiny()

    def forward(features, **kwargs):
        raise RuntimeError("something else")

    model[0].forward = forward
    with pytest.raises(RuntimeError, match="something else"):
        model.encode(TEXTS)


def test_several_threads_encode_with_one_model(model, rows):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: model.encode(TEXTS), range(12)):
            close(got, rows)


def test_one_thread_trains_while_another_encodes(model, rows):
    """The packed layout and the faster matrix library belong to a thread, not to the process."""
    import threading

    features = tiny().preprocess(TEXTS)
    twin, losses = tiny(), []

    def train():
        for _ in range(5):
            loss = twin({**features})["sentence_embedding"].sum()
            loss.backward()
            losses.append(loss.item())

    thread = threading.Thread(target=train)
    thread.start()
    for _ in range(5):
        close(model.encode(TEXTS), rows)
    thread.join()
    assert len(losses) == 5


# -- the smallest vocabularies -----------------------------------------------------------------------------------------


def test_a_transformer_whose_vocabulary_is_one_real_token(tmp_path):
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=whole_words("[UNK]"), unk_token="[UNK]", pad_token="[UNK]", model_max_length=20
    )
    config = transformers.BertConfig(
        vocab_size=1, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, pad_token_id=0,
        max_position_embeddings=20,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = SentenceTransformer(modules=[Transformer(str(tmp_path)), Pooling(8), Normalize()], device="cpu")
    got = model.encode(["one", "one two", "three", "word " * 50, ""])
    assert np.isfinite(got).all()
    close(got[0], got[2])
    assert not got[4].any()
