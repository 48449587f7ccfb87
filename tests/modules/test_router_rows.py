"""Batches whose rows go different ways: each row is what its own route alone makes of it."""

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS, needs_packing, wordpiece

from fourfold import SentenceTransformer
from fourfold.backends.torch import TorchBackend, _moved_features
from fourfold.containers import Tokens
from fourfold.errors import InputError, ShapeError
from fourfold.modules import (
    Dense,
    Normalize,
    Pooling,
    SparseStaticEmbedding,
    SpladePooling,
    StaticEmbedding,
    Transformer,
)
from fourfold.modules._router_rows import PARTS, Part, Parts, PerRow, Routed, divide, merge
from fourfold.modules.router import Router
from fourfold.testing import WIDTH, checkpoint, tiny_folder

TASKS = ("query", "document", "query", "query", "document", "document", "query", "document")
MIXED = [{task: text} for task, text in zip(TASKS, TEXTS, strict=True)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(checkpoint("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    return str(checkpoint("roberta", tmp_path_factory.mktemp("roberta"), seed=1))


def static(seed=0, width=WIDTH):
    torch.manual_seed(seed)
    return StaticEmbedding(wordpiece(), torch.randn(wordpiece().get_vocab_size(), width))


def model_of(*modules):
    return SentenceTransformer(modules=list(modules), device="cpu")


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerances.PACKED)


def apart(model, inputs=MIXED, **options):
    return np.stack([model.encode([item], **options)[0] for item in inputs])


def static_and_transformer(bert, roberta):
    return [Router.for_query_document([static()], [Transformer(bert), Pooling(WIDTH)]), Normalize()]


def two_tokenizers(bert, roberta):
    first, second = Transformer(bert, max_seq_length=9), Transformer(roberta, max_seq_length=20)
    return [Router.for_query_document([first, Pooling(WIDTH)], [second, Pooling(WIDTH)])]


def one_needs_padding(bert, roberta):
    padded = Transformer(roberta, unpad_inputs=False)
    return [Router.for_query_document([Transformer(bert), Pooling(WIDTH)], [padded, Pooling(WIDTH)])]


def both_need_padding(bert, roberta):
    first, second = (Transformer(name, unpad_inputs=False) for name in (bert, roberta))
    return [Router.for_query_document([first, Pooling(WIDTH)], [second, Pooling(WIDTH)])]


def pooled_afterwards(bert, roberta):
    return [Router.for_query_document([Transformer(bert)], [Transformer(roberta)]), Pooling(WIDTH), Normalize()]


def pooled_afterwards_padded(bert, roberta):
    padded = Transformer(roberta, unpad_inputs=False)
    return [Router.for_query_document([Transformer(bert)], [padded]), Pooling(WIDTH, include_prompt=False)]


def two_routers(bert, roberta):
    torch.manual_seed(3)
    later = Router.for_query_document([Dense(WIDTH, 8)], [Dense(WIDTH, 8)])
    return [*two_tokenizers(bert, roberta), Normalize(), later]


def later_router_of_tokens(bert, roberta):
    later = Router.for_query_document([Pooling(WIDTH, "cls")], [Pooling(WIDTH, "max")])
    return [Router.for_query_document([Transformer(bert)], [Transformer(roberta)]), later]


def nested(bert, roberta):
    inner = Router({"query": [static(0)], "document": [static(1)]})
    other = Router({"query": [static(2)], "document": [Transformer(bert), Pooling(WIDTH)]})
    return [Router({"query": [inner, Normalize()], "document": [other]})]


def one_route_for_both(bert, roberta):
    mappings = {("query", None): "all", ("document", "text"): "all"}
    return [Router({"all": [Transformer(bert, query_length=5), Pooling(WIDTH)]}, route_mappings=mappings)]


LAYOUTS = [
    static_and_transformer, two_tokenizers, one_needs_padding, both_need_padding, pooled_afterwards,
    pooled_afterwards_padded, two_routers, later_router_of_tokens, nested, one_route_for_both,
]  # fmt: skip


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda layout: layout.__name__)
def model(request, bert, roberta):
    return model_of(*request.param(bert, roberta))


@pytest.mark.parametrize(
    "options", [{}, {"prompt": "a the "}, {"batch_size": 1}, {"normalize_embeddings": True}], ids=str
)
def test_each_row_is_what_its_own_route_makes_of_it(model, options):
    got = model.encode(MIXED, **options)
    close(got, apart(model, **options))
    for task in ("query", "document"):
        rows = [i for i, other in enumerate(TASKS) if other == task]
        close(got[rows], model.encode([TEXTS[i] for i in rows], task=task, **options))


def test_the_routes_differ(model):
    assert np.abs(model.encode(TEXTS, task="query") - model.encode(TEXTS, task="document")).max() > 0.01


def test_padded_batches_give_the_same(model):
    rows = model.encode(MIXED, output_value=None)
    close(np.stack([row["sentence_embedding"] for row in rows]), model.encode(MIXED))
    assert tuple(row["task"] for row in rows) == TASKS
    assert {row["modality"] for row in rows} == {"text"}


def test_a_stream_of_mixed_rows(model):
    got = np.stack(list(model.encode_stream(iter(MIXED), window=3)))
    close(got, model.encode(MIXED))


def test_many_rows_in_many_windows(bert, roberta):
    model = model_of(*static_and_transformer(bert, roberta))
    inputs = [{TASKS[i % 7]: f"{'text ' * (i % 5)}{i}"} for i in range(2200)]
    got = model.encode(inputs)
    for task in ("query", "document"):
        rows = [i for i, item in enumerate(inputs) if task in item]
        close(got[rows], model.encode([inputs[i][task] for i in rows], task=task))


def test_workers_take_mixed_rows(bert, roberta):
    model = model_of(*two_tokenizers(bert, roberta))
    wanted = model.encode(MIXED)
    pool = model.start_multi_process_pool(["cpu", "cpu"])
    try:
        close(model.encode(MIXED, pool=pool, chunk_size=3), wanted)
    finally:
        model.stop_multi_process_pool(pool)


def ran(model):
    """Return the shapes of the ids that each transformer of a model gets, by route."""
    seen = []
    for route, chain in model[0].sub_modules.items():
        first = chain[0]
        first.register_forward_pre_hook(
            lambda module, args, route=route: seen.append((route, tuple(args[0]["input_ids"].shape)))
        )
    return seen


@needs_packing
def test_neither_route_is_padded_against_the_other(bert, roberta):
    inputs = [{"query": "a"}, {"document": "the quick brown fox " * 4}, {"query": "a the"}]
    model = model_of(*both_need_padding(bert, roberta))
    seen = ran(model)
    model.encode(inputs)
    assert dict(seen) == {"query": (2, 4), "document": (1, 58)}
    model = model_of(*one_needs_padding(bert, roberta))
    seen = ran(model)
    model.encode(inputs)
    (rows, tokens), (rows_, tokens_) = dict(seen)["query"], dict(seen)["document"]
    assert (rows, tokens >= 7, tokens <= 16) == (1, True, True)  # packed, with some filling
    assert (rows_, tokens_) == (1, 58)


@needs_packing
def test_a_route_that_can_runs_packed_beside_one_that_cannot(bert, roberta):
    model = model_of(*one_needs_padding(bert, roberta))
    seen = ran(model)
    model.encode([{"query": text} for text in TEXTS])
    assert all(shape[0] == 1 for _, shape in seen)
    assert not TorchBackend(model).packed


def test_token_vectors_of_mixed_rows(bert, roberta):
    model = model_of(*pooled_afterwards(bert, roberta))
    got = model.encode(MIXED, output_value="token_embeddings")
    for item, row in zip(MIXED, got, strict=True):
        (wanted,) = model.encode([item], output_value="token_embeddings")
        assert row.shape == wanted.shape
        close(row, wanted)


def test_vectors_of_different_widths_are_one_error(bert):
    model = model_of(Router.for_query_document([static(width=8)], [Transformer(bert), Pooling(WIDTH)]))
    assert model.encode_query(["a"]).shape == (1, 8)
    with pytest.raises(ShapeError, match=r"different widths \('query': 8, 'document': 32\)"):
        model.encode(MIXED)


def test_a_task_that_leads_nowhere_is_told(bert, roberta):
    model = model_of(*static_and_transformer(bert, roberta))
    with pytest.raises(InputError, match="no route for task 'other'"):
        model.encode([{"query": "a"}, {"other": "b"}])


def test_routes_that_prepare_whole_batches_take_one_task_a_call(bert):
    class Old(torch.nn.Module):
        def tokenize(self, texts):
            return {"sentence_embedding": torch.tensor([[float(len(text))] * WIDTH for text in texts])}

        def forward(self, features):
            return features

    model = model_of(Router.for_query_document([Old()], [Transformer(bert), Pooling(WIDTH)]))
    assert model.encode([{"query": "abc"}])[0, 0] == 3
    with pytest.raises(InputError, match="each task a call of its own"):
        model.encode(MIXED)


# -- sparse models -----------------------------------------------------------------------------------------------------


def sparse_model(*, unpad=None):
    from fourfold import SparseEncoder

    document = Transformer(str(tiny_folder("sparse", "bert")), transformer_task="fill-mask", unpad_inputs=unpad)
    torch.manual_seed(0)
    query = SparseStaticEmbedding(document.tokenizer, torch.rand(len(document.tokenizer)))
    return SparseEncoder(modules=[Router.for_query_document([query], [document, SpladePooling()])], device="cpu")


@pytest.mark.parametrize("unpad", [None, False])
@pytest.mark.parametrize("flags", [{}, {"convert_to_sparse_tensor": False}, {"max_active_dims": 3}], ids=str)
def test_sparse_rows_are_those_of_their_routes(flags, unpad):
    model = sparse_model(unpad=unpad)
    got = model.encode(MIXED, **flags).to_dense().numpy()
    close(got, np.stack([model.encode(item, **flags).to_dense() for item in MIXED]))
    streamed = list(model.encode_stream(iter(MIXED), window=3, **flags))
    close(np.stack([row.to_dense() for row in streamed]), got)


def test_sparse_rows_of_static_routes_stay_sparse():
    from fourfold import SparseEncoder

    seen = []

    class Watching(Normalize):
        def forward(self, features, **kwargs):
            seen.append(features["sentence_embedding"].layout)
            return features

    tokenizer = Transformer(str(tiny_folder("sparse", "bert"))).tokenizer
    torch.manual_seed(0)
    routes = [[SparseStaticEmbedding(tokenizer, torch.rand(len(tokenizer)))] for _ in range(2)]
    model = SparseEncoder(modules=[Router.for_query_document(*routes), Watching()], device="cpu")
    got = model.encode(MIXED).to_dense()
    assert seen == [torch.sparse_coo]
    close(got, np.stack([model.encode(item).to_dense() for item in MIXED]))


# -- the pieces --------------------------------------------------------------------------------------------------------


def test_tokens_of_several_ways_keep_the_order_of_rows():
    first = Tokens.of([[1, 2], [3]])
    second = Tokens.of([[7, 8, 9]], [[0, 0, 1]])
    ways = (("query", "text"), ("document", "text"))
    whole = Routed.merged([(ways[0], np.array([0, 2]), first), (ways[1], np.array([1]), second)])
    assert [whole.take(np.array([row])).ids.tolist() for row in range(3)] == [[1, 2], [7, 8, 9], [3]]
    assert whole.type_ids.tolist() == [0, 0, 0, 0, 1, 0]
    part = whole.take(np.array([1, 2]))
    assert [(way, rows.tolist()) for way, rows in part.by_way()] == [(ways[0], [1]), (ways[1], [0])]


def features(rows, packed):
    texts = [torch.arange(row, row + row % 3 + 1.0)[:, None] for row in rows]
    lengths = [len(text) for text in texts]
    made = {"sentence_embedding": torch.tensor(rows, dtype=torch.float32)[:, None], "kept": 1, "name": f"{rows[0]}"}
    made["prompt_length"] = rows[0]
    if packed:
        offsets = torch.tensor([0, *np.cumsum(lengths)])
        filled = torch.cat([*texts, torch.full((2, 1), -1.0)])
        return {**made, "token_embeddings": filled[None], "cu_seq_lens_q": offsets}
    mask = torch.zeros(len(rows), 5)
    tokens = torch.full((len(rows), 5, 1), -1.0)
    for row, text in enumerate(texts):  # padded on the left
        mask[row, -len(text) :] = 1
        tokens[row, -len(text) :] = text
    return {**made, "token_embeddings": tokens, "attention_mask": mask}


@pytest.mark.parametrize("packed", [True, False])
def test_merged_features_are_those_of_one_batch_and_fall_apart_again(packed):
    parts = [
        Part(("a", None), np.array([0, 3]), features([0, 3], packed)),
        Part(("b", None), np.array([1, 2]), features([1, 2], not packed)),
    ]
    merged = merge(Parts(parts, packed))
    assert merged["sentence_embedding"].flatten().tolist() == [0, 1, 2, 3]
    assert (merged["kept"], merged["name"]) == (1, PerRow(["0", "1", "1", "0"]))
    assert merged["prompt_length"].tolist() == [0, 1, 1, 0]
    values = merged["token_embeddings"]
    if packed:
        assert values.flatten().tolist() == [0, 1, 2, 2, 3, 4, 3]
        assert merged["cu_seq_lens_q"].tolist() == [0, 1, 3, 6, 7]
        assert "attention_mask" not in merged
    else:
        assert merged["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0]]
        assert values[merged["attention_mask"].bool()].flatten().tolist() == [0, 1, 2, 2, 3, 4, 3]
    again = divide(merged, [("a", None), ("b", None), ("b", None), ("a", None)])
    assert [part.rows.tolist() for part in again.parts] == [[0, 3], [1, 2]]
    assert again.parts[1].features["sentence_embedding"].flatten().tolist() == [1, 2]
    assert again.parts[1].features["task"] == "b"
    back = merge(again)
    for name in ("token_embeddings", "sentence_embedding"):
        assert torch.equal(back[name], merged[name])


def test_pooling_leaves_out_each_routes_own_prompt(bert, roberta):
    tokenizer = Transformer(bert).tokenizer
    other = Transformer(roberta)
    tokenizer.add_tokens(["promptword"])
    first = Transformer(bert)
    first.tokenizer = tokenizer
    first.model.resize_token_embeddings(len(tokenizer))
    router = Router.for_query_document([first], [other])
    model = model_of(router, Pooling(WIDTH, include_prompt=False))
    inputs = [{"query": "a fox"}, {"document": "a fox"}, {"query": "dog"}]
    prompt = "promptword "
    assert first.prompt_length(prompt) != other.prompt_length(prompt)
    close(model.encode(inputs, prompt=prompt), apart(model, inputs, prompt=prompt))
    rows = model.encode(inputs, prompt=prompt, output_value=None)  # padded
    close(np.stack([row["sentence_embedding"] for row in rows]), apart(model, inputs, prompt=prompt))


def test_features_of_every_way_are_moved():
    """``meta`` stands for a device that is not the CPU."""
    router = Router.for_query_document([static(0)], [static(1)])
    features = router.pack(router.tokenise(MIXED))
    moved = _moved_features(features, torch.device("meta"))
    assert [part.rows.tolist() for part in moved[PARTS].parts] == [part.rows.tolist() for part in features[PARTS].parts]
    kinds = {
        value.device.type for part in moved[PARTS].parts for value in part.features.values() if torch.is_tensor(value)
    }
    assert kinds == {"meta"}
    assert moved["task"] == TASKS
