import copy
import pickle

import numpy as np
import pytest
import torch
from tests.support import needs_packing
from tests.tolerances import BATCH, PACKED
from torch import nn

from fourfold import CrossEncoder
from fourfold.errors import InputError, MissingFeatureError, MissingMethodError
from fourfold.modules import Pooling, Transformer
from fourfold.testing import WIDTH, checkpoint, tiny, tiny_folder

PAIRS = [("the query", "a document"), ("the query", "the long text of the world " * 5), ("", ""), ("short", "x")]


@pytest.fixture(scope="module")
def model():
    return tiny("cross")


@needs_packing
@pytest.mark.parametrize("architecture", ["bert", "roberta", "modernbert", "qwen3"])
def test_packed_scores_are_padded_ones(architecture):
    model = tiny("cross", architecture)
    assert model[0].packed
    pairs = [pair for pair in PAIRS if any(pair)]
    packed = model.predict(pairs)
    model[0].unpad_inputs = False
    np.testing.assert_allclose(model.predict(pairs), packed, atol=PACKED)


def test_a_score_does_not_depend_on_company(model):
    together = model.predict(PAIRS)
    for pair, score in zip(PAIRS, together, strict=True):
        assert model.predict(pair) == pytest.approx(score, abs=BATCH)
    backwards = model.predict(PAIRS[::-1], batch_size=1)
    np.testing.assert_allclose(backwards[::-1], together, atol=BATCH)


def test_a_document_of_a_megabyte_is_cut(model):
    long = "the world " * 100_000
    score = model.predict(("the query", long))
    assert score == pytest.approx(model.predict(("the query", long[:5000])), abs=BATCH)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([("a", "b"), ("a", None)], "position 1"),
        ([("a", "b"), ("a", "b", "c")], "position 1"),
        (["a", "b", "c"], "position 0"),
        ([("a", 3)], "position 0"),
    ],
    ids=str,
)
def test_what_is_no_pair_is_named(model, inputs, said):
    with pytest.raises(InputError, match=said):
        model.predict(inputs)


def test_a_score_that_is_no_number_is_named():
    model = tiny("cross")

    def broken(scores):
        return torch.where(torch.arange(len(scores))[:, None] == 1, torch.nan, scores)

    with pytest.raises(InputError, match=r"position \d.*NaN"):
        model.predict(PAIRS, activation_fn=broken)
    with torch.no_grad():
        model[0].model.classifier.bias.fill_(torch.nan)
    for flags in ({}, {"convert_to_tensor": True}):
        with pytest.raises(InputError, match=r"position 0.*float32"):
            model.predict(PAIRS, **flags)
    with pytest.raises(InputError, match="not a number"):
        model.rank("a", ["b"])


def test_a_language_model_refuses_what_has_no_tokens():
    model = tiny("cross", "qwen3")
    model[0].tokenizer.backend_tokenizer.post_processor = None
    model[0].processor = model[0].processor
    with pytest.raises(InputError, match=r"no tokens|padded on the left"):
        model.predict([("a", "b"), ("", "")])


def test_a_model_without_scores_says_so():
    folder = str(tiny_folder("dense", "bert"))
    model = CrossEncoder(modules=[Transformer(folder), Pooling(WIDTH, "mean")], device="cpu")
    with pytest.raises(MissingFeatureError, match="'scores'"):
        model.predict(PAIRS)


def test_workers_give_the_same(model):
    wanted = model.predict(PAIRS * 5)
    got = model.predict(PAIRS * 5, device=["cpu", "cpu"])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=BATCH)


SHARED = [("a query of the world that is long " * 5, document) for document in ("a", "the text", "x y " * 9, "", "b")]


@needs_packing
def test_workers_run_once_what_pairs_share():
    model = tiny("cross", "qwen3")
    pairs = [pair for copy in "cdefgh" for pair in ((f"{copy} {query}", text) for query, text in SHARED)]
    alone = model.predict(pairs)
    pool = model.start_multi_process_pool(["cpu", "cpu"])
    try:
        np.testing.assert_allclose(model.predict(pairs, pool=pool), alone, atol=PACKED)
        np.testing.assert_allclose(model.predict(pairs, pool=pool, chunk_size=3), alone, atol=PACKED)
    finally:
        model.stop_multi_process_pool(pool)


@needs_packing
def test_batches_that_do_not_fit_are_halved_within_what_pairs_share(monkeypatch):
    model = tiny("cross", "qwen3")
    alone = model.predict(SHARED)
    real = model[0].forward

    def forward(features, **kwargs):
        if features["packing"].offsets[-1] > 90:
            raise MemoryError
        return real(features, **kwargs)

    monkeypatch.setattr(model[0], "forward", forward)
    np.testing.assert_allclose(model.predict(SHARED), alone, atol=PACKED)


@needs_packing
@pytest.mark.parametrize("what", ["reads both sides", "gives other numbers", "hidden states", "training"])
def test_texts_share_only_where_the_numbers_are_the_same(monkeypatch, what):
    model = tiny("cross", "bert" if what == "reads both sides" else "qwen3")
    transformer = model[0]
    if what == "gives other numbers":
        monkeypatch.setattr("fourfold.modules._packed.close", lambda *args: False)
    elif what == "hidden states":
        transformer.config.output_hidden_states = True
    elif what == "training":
        model.train()
    prefixes = transformer.tokenise(SHARED).prefixes
    assert (prefixes is None) == (what != "training")
    assert transformer.model.training == (what == "training")


def test_an_activation_is_no_module_of_the_model():
    model = tiny("cross", activation_fn=nn.Tanh())
    assert [name for name, _ in model.named_children()] == ["0"]
    model.activation_fn = nn.Identity()
    assert len(model) == 1
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(again.activation_fn, nn.Identity)
        np.testing.assert_allclose(again.predict(PAIRS), model.predict(PAIRS), atol=BATCH)


def test_scores_of_half_precision_are_float32(tmp_path):
    folder = str(checkpoint("bert", tmp_path, head="labels", num_labels=3))
    model = CrossEncoder(folder, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    for flags in ({}, {"convert_to_tensor": True}, {"apply_softmax": True}):
        assert str(model.predict(PAIRS, **flags).dtype).endswith("float32")
    np.testing.assert_allclose(model.predict(PAIRS, apply_softmax=True).sum(1), 1, atol=BATCH)


def test_layers_that_stay_in_float32_can_be_chosen_anew():
    model = tiny("cross").bfloat16()
    rounded = model.predict(PAIRS)
    model.set_keep_in_fp32_modules(["0.model.classifier"])
    kept = model.predict(PAIRS)
    assert not np.array_equal(kept, rounded)
    assert np.array_equal(copy.deepcopy(model).predict(PAIRS), kept)
    assert model[0].model.classifier.weight.dtype == torch.bfloat16
    with pytest.raises(MissingMethodError, match=r"0\.nothing"):
        model.set_keep_in_fp32_modules(["0.nothing"])
    assert np.array_equal(model.predict(PAIRS), kept)
    model.set_keep_in_fp32_modules([])
    assert np.array_equal(model.predict(PAIRS), rounded)


def test_the_callers_dictionaries_stay_as_they_are():
    config, processor = {"num_labels": 1}, {}
    CrossEncoder(
        str(tiny_folder("cross")), device="cpu", num_labels=1, max_length=9, config_kwargs=config,
        processor_kwargs=processor,
    )  # fmt: skip
    assert (config, processor) == ({"num_labels": 1}, {})


def test_ties_keep_their_order_and_text_is_given_back(model):
    hits = model.rank("a", ["b", "c", "b", "b"], return_documents=True)
    same = [hit["corpus_id"] for hit in hits if hit["text"] == "b"]
    assert same == [0, 2, 3]
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


# -- passages ----------------------------------------------------------------------------------------------------------

LONG = ["the short text", "First of all the world. " * 30 + "A document. " * 20, "", "x " * 90]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "qwen3"])
@pytest.mark.parametrize("options", [{}, {"size": 12, "overlap": 4}, {"prompt": "the query: "}], ids=str)
def test_a_document_is_worth_its_best_passage(architecture, options):
    model = tiny("cross", architecture)
    model.max_seq_length = 40
    hits = model.rank_passages("the query", LONG, return_documents=True, **options)
    given = {name: value for name, value in options.items() if name == "prompt"}
    assert sorted(hit["corpus_id"] for hit in hits) == [0, 1, 2, 3]
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    uncut = tiny("cross", architecture)
    for hit in hits:
        document = LONG[hit["corpus_id"]]
        assert hit["text"] == document
        passage = document[hit["start"] : hit["stop"]]
        # nothing of the passage is cut
        assert uncut.predict(("the query", passage), **given) == pytest.approx(hit["score"], abs=PACKED)
        if hit["corpus_id"] in (0, 2):
            assert passage == document
    best = max(hits, key=lambda hit: hit["score"])
    assert model.rank_passages("the query", LONG, top_k=1, **options) == [
        {key: value for key, value in best.items() if key != "text"}
    ]


def test_every_passage_counts_and_the_largest_score_wins(monkeypatch):
    model, seen = tiny("cross"), []
    model.max_seq_length = 30

    def predict(inputs, **options):
        seen.extend(inputs)
        return np.array([len(text) + (1000 if "needle" in text else 0) for _, text in inputs], dtype=np.float32)

    monkeypatch.setattr(model, "predict", predict)
    hay = "some words of hay. " * 40
    hits = model.rank_passages("the query", [hay, hay + "a needle. " + hay, "text"], batch_size=3)
    assert [hit["corpus_id"] for hit in hits] == [1, 0, 2]
    assert "needle" in (hay + "a needle. " + hay)[hits[0]["start"] : hits[0]["stop"]]
    assert " ".join(text for _, text in seen[: len(seen) // 3]) in hay
    assert {query for query, _ in seen} == {"the query"}


@pytest.mark.parametrize(
    ("query", "documents", "options", "said"),
    [
        ("the query", ["a", None], {}, "position 1"),
        ("the query " * 100, ["a"], {}, "no room"),
        ("the query", ["a"], {"size": 10_000}, "at most"),
        ("the query", ["a"], {"size": 0}, "size"),
        ("the query", ["a"], {"overlap": -1}, "overlap"),
    ],
    ids=str,
)
def test_passages_that_cannot_be_made(model, query, documents, options, said):
    with pytest.raises(InputError, match=said):
        model.rank_passages(query, documents, **options)


def test_no_documents_have_no_passages(model, tmp_path):
    assert model.rank_passages("the query", []) == []
    several = CrossEncoder(str(checkpoint("bert", tmp_path, head="labels", num_labels=3)), device="cpu")
    with pytest.raises(InputError, match="one label"):
        several.rank_passages("the query", ["a"])
