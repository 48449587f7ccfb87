"""Vectors of chunks: each alone, late, by the caller's spans; against plain loops over transformers' own models."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tolerances import BATCH, PACKED, REAL_MODEL, SAME, STATIC

import fourfold
from fourfold.containers import ChunkedText
from fourfold.errors import InputError
from fourfold.families._late import plan_parts, plan_windows
from fourfold.modules import Dense, Normalize, Pooling, Router, StaticEmbedding
from fourfold.testing import tiny, tiny_folder
from fourfold.text import split

SHORT = "the text is short. a query of the world!"
LONG = " ".join(f"the long document {i} is of text and query." for i in range(40))
TEXTS = [SHORT, "", "a", LONG[:150] + "\n\n" + LONG[:90], "  world  "]
MEAN = ["bert", "modernbert", "mpnet", "roberta", "deberta_v2", "distilbert"]


@pytest.fixture(scope="module")
def model():
    return tiny("dense")


def with_mean(architecture, *, include_prompt=True, mode="mean", more=True, **options):
    """Return a tiny model of an architecture that pools all tokens, with modules behind the pooling."""
    transformer = tiny("dense", architecture)[0]
    tail = [Dense(32, 16), Normalize()] if more else []
    torch.manual_seed(0)
    return fourfold.SentenceTransformer(
        modules=[transformer, Pooling(32, mode, include_prompt), *tail], device="cpu", **options
    )


def hidden(transformer, ids):
    """Return the token vectors of one sequence by transformers' model itself, float32 ``[tokens, width]``."""
    config = copy.deepcopy(transformer.config)
    plain = type(transformer.model)._from_config(config, attn_implementation="eager").eval()
    plain.load_state_dict(transformer.model.state_dict())
    with torch.inference_mode():
        return plain(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)).long())[0][0]


def by_hand(transformer, text, spans, prompt=""):
    """Return each span's token vectors of a text that fits, special tokens and prompt with the text's ends."""
    encoding = transformer.tokenizer(prompt + text, return_offsets_mapping=True)
    vectors = hidden(transformer, encoding["input_ids"])
    own = [(a - len(prompt), b - len(prompt)) for a, b in encoding["offset_mapping"]]
    solid = [i for i, (a, b) in enumerate(own) if b > max(a, 0)]
    rows = []
    for start, stop in spans:
        chosen = [i for i in solid if own[i][0] < stop and own[i][1] > start]
        first = 0 if solid[0] in chosen else chosen[0]
        last = len(vectors) if solid[-1] in chosen else chosen[-1] + 1
        rows.append(vectors[first:last])
    return rows


def tokens_of(places, start, stop):
    """Return the first token of a span of characters and the one after its last."""
    inside = [i for i, (a, b) in enumerate(places) if b > start and a < stop]
    return inside[0], inside[-1] + 1


def close(ours, theirs, tolerance):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=tolerance, rtol=0)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("architecture", MEAN)
def test_a_text_that_fits_has_the_vector_that_encode_gives(architecture, late):
    model = with_mean(architecture)
    texts = [SHORT, "", "  world  ", "a\n\n"]
    for found, vector in zip(model.encode_chunks(texts, late=late), model.encode(texts), strict=True):
        assert found.offsets.tolist() == [[0, len(found.text)]]
        close(found.vectors[0], vector, BATCH)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("include_prompt", [False, True])
def test_prompts_count_as_they_do_for_a_text_alone(late, include_prompt):
    model = with_mean("bert", include_prompt=include_prompt, prompts={"document": "document text: "})
    for options in ({"prompt_name": "document"}, {"prompt": "a "}, {"prompt": ""}):
        chunks = model.encode_chunks(SHORT, late=late, **options)
        close(chunks.vectors[0], model.encode(SHORT, **options), BATCH)


@pytest.mark.parametrize("size", [12, 40])
def test_chunks_are_encoded_each_as_a_text_of_its_own(model, size):
    for found in model.encode_chunks(TEXTS, size=size, overlap=4):
        pieces = split(found.text, size=size, overlap=4, tokenizer=model.tokenizer)
        assert found.texts == [piece.text for piece in pieces]
        assert len(found) == len(pieces)
        close(found.vectors, model.encode(found.texts), BATCH)


def test_a_prompt_takes_its_room_from_every_chunk(model):
    found = model.encode_chunks(LONG, size=20, prompt="query: ")
    counts = [len(model.tokenizer("query: " + text)["input_ids"]) for text in found.texts]
    assert max(counts) <= 20
    assert len(found) > len(model.encode_chunks(LONG, size=20, prompt=""))
    close(found.vectors, model.encode(found.texts, prompt="query: "), BATCH)


def test_without_a_size_chunks_fill_the_model(model):
    found = model.encode_chunks(LONG)
    counts = [len(model.tokenizer(text)["input_ids"]) for text in found.texts]
    assert 64 < max(counts) <= model.max_seq_length == 128


@pytest.mark.parametrize("architecture", MEAN)
@pytest.mark.parametrize("prompt", ["", "query: "])
def test_late_vectors_are_means_of_the_whole_texts_token_vectors(architecture, prompt):
    model = with_mean(architecture, more=False)
    text = LONG[:180]
    found = model.encode_chunks(text, size=24, overlap=3, late=True, prompt=prompt)
    assert len(found) > 2
    expected = [part.mean(dim=0) for part in by_hand(model[0], text, found.offsets.tolist(), prompt)]
    close(found.vectors, torch.stack(expected), PACKED)


@pytest.mark.parametrize("mode", ["mean_sqrt_len_tokens", "max", "weightedmean", ["mean", "max"]])
def test_late_pooling_follows_the_models_own_rule(mode):
    model = with_mean("bert", mode=mode, more=isinstance(mode, str))
    found = model.encode_chunks(LONG[:180], size=24, late=True)
    rules = {
        "mean": lambda x: x.mean(dim=0),
        "mean_sqrt_len_tokens": lambda x: x.sum(dim=0) / len(x) ** 0.5,
        "max": lambda x: x.max(dim=0).values,
        "weightedmean": lambda x: (x * torch.arange(1, len(x) + 1)[:, None]).sum(dim=0) / sum(range(len(x) + 1)),
    }
    modes = [mode] if isinstance(mode, str) else mode
    parts = by_hand(model[0], LONG[:180], found.offsets.tolist())
    pooled = torch.stack([torch.cat([rules[name](part) for name in modes]) for part in parts])
    features = {"sentence_embedding": pooled}
    with torch.inference_mode():
        for module in list(model)[2:]:
            features = module(features)
    close(found.vectors, features["sentence_embedding"], PACKED)


@pytest.mark.parametrize("unpad", [False, True])
def test_padded_and_packed_windows_give_the_same(unpad):
    model = with_mean("bert")
    packed = model.encode_chunks([*TEXTS, LONG], size=30, overlap=5, late=True)
    model[0].unpad_inputs = unpad
    for ours, theirs in zip(model.encode_chunks([*TEXTS, LONG], size=30, overlap=5, late=True), packed, strict=True):
        close(ours.vectors, theirs.vectors, PACKED)
    model[0].unpad_inputs = None


@pytest.mark.parametrize("late", [False, True])
def test_company_and_order_do_not_matter(late):
    model = with_mean("bert")
    together = model.encode_chunks([*TEXTS, LONG], size=30, late=late)
    for text, found in zip(
        [LONG, *TEXTS[::-1]], model.encode_chunks([LONG, *TEXTS[::-1]], size=30, late=late), strict=True
    ):
        twin = next(chunks for chunks in together if chunks.text == text)
        assert found.offsets.tolist() == twin.offsets.tolist()
        close(found.vectors, twin.vectors, BATCH)
        close(model.encode_chunks(text, size=30, late=late).vectors, twin.vectors, BATCH)


def test_all_vectors_of_a_call_live_in_one_array(model):
    found = model.encode_chunks(TEXTS, size=12)
    bases = {id(chunks.vectors.base) for chunks in found}
    assert len(bases) == 1
    assert sum(len(chunks) for chunks in found) == len(found[0].vectors.base)


# -- texts longer than the model -------------------------------------------------------------------------------------


def test_a_long_texts_spans_are_pooled_from_windows_of_the_models_length():
    model = with_mean("bert", more=False)
    found = model.encode_chunks(LONG, size=24, late=True)
    encoding = model.tokenizer(LONG, return_offsets_mapping=True)
    ids, places = encoding["input_ids"], encoding["offset_mapping"]
    inner = places[1:-1]
    spans = np.array([tokens_of(inner, *span) for span in found.offsets.tolist()])
    room = model.max_seq_length - 2
    assert len(inner) > 3 * room
    for start, stop, members in plan_windows(spans, spans[:, 0] >= 0, len(inner), room):
        vectors = hidden(model[0], [ids[0], *ids[1 + start : 1 + stop], ids[-1]])
        for member in members.tolist():
            first, last = spans[member] - start + 1
            first = 0 if spans[member, 0] == 0 else first
            last = last + 1 if spans[member, 1] == len(inner) else last
            close(found.vectors[member], vectors[first:last].mean(dim=0), PACKED)


def test_a_span_longer_than_the_model_is_pooled_from_several_windows():
    model = with_mean("bert", more=False)
    spans = [(0, len(LONG)), (0, 40), (200, 1200)]
    found = model.encode_chunks(LONG, spans=spans, late=True)
    encoding = model.tokenizer(LONG, return_offsets_mapping=True)
    ids, inner = encoding["input_ids"], encoding["offset_mapping"][1:-1]
    room = model.max_seq_length - 2
    for row, (start, stop) in zip(found.vectors, spans, strict=True):
        first, last = tokens_of(inner, start, stop)
        if last - first <= room:
            continue
        parts = []
        for begin, end, (kept, until) in plan_parts(first, last, len(inner), room):
            vectors = hidden(model[0], [ids[0], *ids[1 + begin : 1 + end], ids[-1]])
            low = 0 if kept == 0 else kept - begin + 1
            parts.append(vectors[low : until - begin + 1 + (until == len(inner))])
        close(row, torch.cat(parts).mean(dim=0), PACKED)
    close(found.vectors[1], model.encode_chunks(LONG, spans=spans[1:2], late=True).vectors[0], BATCH)


ranges = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), min_size=1, max_size=30)


@given(ranges, st.integers(60, 400), st.integers(0, 100))
def test_every_span_is_in_one_window_with_text_around_it(pairs, room, more):
    spans = np.array([(a, a + n) for a, n in pairs])
    count = int(spans[:, 1].max()) + more
    seen = []
    for start, stop, members in plan_windows(spans, np.ones(len(spans), bool), count, room):
        assert 0 <= start <= stop <= count
        assert stop - start == min(room, count)
        for first, last in spans[members].tolist():
            assert start <= first < last <= stop
            if last - first <= room - 2 * (room // 8):
                assert start == 0 or stop == count or first - start >= room // 8
                assert stop == count or stop - last >= room // 8
        seen += members.tolist()
    assert sorted(seen) == list(range(len(spans)))


@given(st.integers(0, 200), st.integers(1, 900), st.integers(0, 100), st.integers(8, 100))
def test_the_parts_of_a_long_span_join_to_it(first, length, more, room):
    last = first + length
    done = first
    for start, stop, (kept, until) in plan_parts(first, last, last + more, room):
        assert kept == done
        assert max(kept - room // 8, 0) == start
        assert start <= kept < until <= stop <= start + room
        done = until
    assert done == last


# -- the caller's own spans ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
def test_own_spans_may_overlap_and_stand_in_any_order(late):
    model = with_mean("bert", more=False)
    spans = [(20, 60), (0, 30), (2, 3), (31, 180), (0, 180)]
    text = LONG[:180]
    found = model.encode_chunks(text, spans=spans, late=late)
    assert found.texts == [text[a:b] for a, b in spans]
    if late:
        close(found.vectors, torch.stack([part.mean(dim=0) for part in by_hand(model[0], text, spans)]), PACKED)
    else:
        close(found.vectors, model.encode(found.texts), BATCH)


@pytest.mark.parametrize("late", [False, True])
def test_a_batch_takes_a_list_of_spans_for_each_text(late):
    model = with_mean("bert")
    one, none, array = model.encode_chunks(
        [SHORT, SHORT, SHORT], spans=[[(0, 8)], [], np.array([[0, 8], [9, 20]])], late=late
    )
    assert (one.texts, none.texts, array.texts) == (["the text"], [], ["the text", "is short. a"])
    assert none.vectors.shape == (0, 16)
    close(one.vectors[0], array.vectors[0], BATCH)
    assert model.encode_chunks(SHORT, spans=[], late=late).vectors.shape == (0, 16)
    assert model.encode_chunks([], late=late) == []


def test_a_span_inside_a_word_is_pooled_from_the_words_token():
    model = with_mean("bert", more=False)
    late = model.encode_chunks("document", spans=[(2, 4), (0, 8)], late=True)
    close(late.vectors[0], late.vectors[1], SAME)


def test_a_span_that_holds_no_token_takes_the_one_next_to_it():
    model = with_mean("bert", more=False)
    text = "the text \x00\ufffd "
    late = model.encode_chunks(text, spans=[(3, 4), (4, 8), (9, 11), (8, 9)], late=True).vectors
    close(late[0], late[1], SAME)
    assert np.isfinite(late).all()
    blank = model.encode_chunks(" \n ", spans=[(0, 1)], late=True).vectors
    close(blank[0], model.encode(" "), BATCH)


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
def test_options_mean_what_they_mean_to_encode(late):
    model = with_mean("bert", more=False)
    plain = model.encode_chunks(LONG, size=40, late=late).vectors
    tensor = model.encode_chunks(LONG, size=40, late=late, convert_to_tensor=True).vectors
    assert isinstance(tensor, torch.Tensor)
    assert plain.dtype == np.float32
    close(tensor, plain, BATCH)
    cut = model.encode_chunks(LONG, size=40, late=late, truncate_dim=8, normalize_embeddings=True, batch_size=1).vectors
    close(cut, plain[:, :8] / np.linalg.norm(plain[:, :8], axis=1, keepdims=True), BATCH)
    bits = model.encode_chunks(LONG, size=40, late=late, precision="ubinary").vectors
    assert np.array_equal(bits, np.packbits(plain > 0, axis=1))
    model.truncate_dim = 5
    assert model.encode_chunks(LONG, size=40, late=late).vectors.shape == (len(plain), 5)
    assert model.encode_chunks([LONG], size=40, late=late, show_progress_bar=True)[0].vectors.shape == (len(plain), 5)


def test_a_subclass_that_overrides_encode_is_asked(model):
    class Doubled(fourfold.SentenceTransformer):
        def encode(self, inputs, **options):
            return super().encode(inputs, **options) * 2

    double = Doubled(modules=list(model), device="cpu")
    close(double.encode_chunks(LONG, size=40).vectors, model.encode_chunks(LONG, size=40).vectors * 2, BATCH)


def test_lowered_max_seq_length_counts(model):
    fresh = tiny("dense")
    fresh.max_seq_length = 16
    assert max(len(fresh.tokenizer(text)["input_ids"]) for text in fresh.encode_chunks(LONG).texts) <= 16
    with pytest.raises(InputError, match="size must be at most the 16 tokens that the model takes, got 17"):
        fresh.encode_chunks(LONG, size=17)


def test_a_length_of_its_own_for_documents_counts():
    model = fourfold.SentenceTransformer(modules=[tiny("dense")[0], Pooling(32)], device="cpu")
    model[0].document_length = 20
    for late in (False, True):
        short = model.encode_chunks(LONG, task="document", late=late)
        assert max(len(model.tokenizer(text)["input_ids"]) for text in short.texts) <= 20
        assert len(short) > len(model.encode_chunks(LONG, late=late))
    model[0].document_length = None


def test_the_route_of_a_task_cuts():
    query, document = tiny("dense")[0], StaticEmbedding.example()
    router = Router.for_query_document([query, Pooling(32), Dense(32, 8)], [document])
    model = fourfold.SentenceTransformer(modules=[router], device="cpu")
    found = model.encode_chunks("a b c a b c", size=2, task="document")
    assert found.texts == ["a b", "c a", "b c"]
    close(found.vectors, model.encode(found.texts, task="document"), BATCH)
    assert model.encode_chunks("a b c a b c", size=4, task="query").texts == ["a b", "c a", "b c"]


# -- what cannot be done ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 2}, "size 2 leaves no room"),
        ({"size": 12, "overlap": 10}, "overlap must be less than the 10"),
        ({"spans": [(0, 4)], "size": 12}, "spans are given, so size and overlap have no meaning"),
        ({"spans": [(0, 4)], "overlap": 1}, "spans are given, so size and overlap have no meaning"),
        ({"spans": [(4, 4)]}, r"span 0 must have 0 <= start < stop <= 40, the text's length; got \(4, 4\)"),
        ({"spans": [(0, 4), (3, 41)]}, "span 1 must have"),
        ({"spans": [(-1, 4)]}, "span 0 must have"),
        ({"spans": [(0.5, 4)]}, "pairs of whole numbers"),
        ({"spans": [4, 5]}, "pairs of whole numbers"),
        ({"late": True, "pool": object()}, "late=True runs in this process"),
        ({"late": True, "device": ["cpu", "cpu"]}, "late=True runs in this process"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"colour": 1}, "unknown keyword arguments"),
    ],
)
def test_what_cannot_be_done_is_said(options, message):
    with pytest.raises(InputError, match=message):
        with_mean("bert").encode_chunks(SHORT, **options)


def test_spans_are_needed_for_every_text(model):
    with pytest.raises(InputError, match="one list for each of the 2 texts, got 1"):
        model.encode_chunks([SHORT, SHORT], spans=[[(0, 4)]])


@pytest.mark.parametrize("bad", [[SHORT, None], [("a", "b")], 7])
def test_only_texts_are_cut(model, bad):
    with pytest.raises(InputError, match="encode_chunks takes a string or a list of strings, got"):
        model.encode_chunks(bad)


@pytest.mark.parametrize("mode", ["cls", "lasttoken", ["mean", "cls"]])
def test_a_model_that_pools_one_token_cannot_be_late(mode):
    model = with_mean("bert", mode=mode, more=False)
    with pytest.raises(InputError, match=r"this one takes one token \((cls|lasttoken)\)"):
        model.encode_chunks(SHORT, late=True)
    assert model.encode_chunks(SHORT).vectors.shape[0] == 1


def test_a_model_without_context_cannot_be_late():
    with pytest.raises(InputError, match="with a Pooling module; this one has StaticEmbedding, Normalize"):
        tiny("dense", "static").encode_chunks(SHORT, late=True)


def test_a_prompt_may_leave_no_room():
    model = with_mean("bert")
    model.max_seq_length = 6
    with pytest.raises(InputError, match=r"leaves? no room"):
        model.encode_chunks(SHORT, prompt="the text is short", late=True)
    with pytest.raises(InputError, match="leave no room in the 6 tokens"):
        model.encode_chunks(SHORT, prompt="the text is short", late=True, spans=[(0, 4)])


# -- fourfold.load ---------------------------------------------------------------------------------------------------


def test_the_encoder_without_torch_cuts_too():
    encoder = fourfold.load(str(tiny_folder("dense", "static")))
    assert encoder.backend == "static"
    whole = encoder.encode_chunks(LONG)
    assert whole.offsets.tolist() == [[0, len(LONG)]]
    close(whole.vectors[0], encoder.encode(LONG), STATIC)
    found = encoder.encode_chunks([LONG, "a"], size=20, overlap=5, normalize_embeddings=True)
    assert [type(chunks) for chunks in found] == [ChunkedText, ChunkedText]
    close(found[0].vectors, encoder.encode(found[0].texts, normalize_embeddings=True), STATIC)
    tokenizer = StaticEmbedding.load(str(tiny_folder("dense", "static"))).locating_tokenizer()
    assert max(tokenizer.count(text) for text in found[0].texts) <= 20
    with pytest.raises(InputError, match="late=True needs a model whose token vectors know the text"):
        encoder.encode_chunks(LONG, late=True)


@pytest.mark.parametrize("late", [False, True])
def test_the_encoder_of_a_transformer_does_what_the_model_does(late):
    encoder = fourfold.load(str(tiny_folder("dense", "bert")))
    ours = encoder.encode_chunks([LONG, SHORT], size=30, overlap=4, late=late)
    theirs = encoder.model.encode_chunks([LONG, SHORT], size=30, overlap=4, late=late)
    for a, b in zip(ours, theirs, strict=True):
        assert a.offsets.tolist() == b.offsets.tolist()
        close(a.vectors, b.vectors, SAME)
    assert encoder.encode_chunks(SHORT, spans=[(0, 8)], late=late).texts == ["the text"]


# -- a real model ----------------------------------------------------------------------------------------------------


def test_a_real_models_late_vectors_are_those_of_a_plain_loop(minilm):
    model = fourfold.SentenceTransformer(minilm, device="cpu")
    text = "Berlin is the capital of Germany. The city lies on the Spree. Its 3.85 million inhabitants like it there."
    found = model.encode_chunks(text, size=14, late=True)
    assert len(found) == 3
    expected = torch.stack([part.mean(dim=0) for part in by_hand(model[0], text, found.offsets.tolist())])
    close(found.vectors, torch.nn.functional.normalize(expected, dim=-1), REAL_MODEL)
    alone = model.encode_chunks(text, size=14)
    question = model.encode("How many people live in Berlin?")
    # What late chunking is for: "Its inhabitants" is known to be Berlin's.
    assert found.vectors[2] @ question > alone.vectors[2] @ question
