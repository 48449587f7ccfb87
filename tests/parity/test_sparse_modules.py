"""The sparse parts: the same numbers, gradients, settings and folders as the older library's."""

import itertools
import json

import numpy as np
import pytest
import torch
from tests.support import TEXTS
from tests.tolerances import FORMULA_LARGE, PACKED

from fourfold import SparseEncoder, modules
from fourfold.testing import checkpoint

HEADS = ("albert", "bert", "camembert", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm_roberta")
WAYS = [(strategy, activation) for strategy in ("max", "sum") for activation in ("relu", "log1p_relu")]
# Every way on one architecture, one way on each of the others.
MODELS = [("bert", *way) for way in WAYS] + [
    (name, *way) for name, way in zip(HEADS, itertools.cycle(WAYS)) if name != "bert"
]


@pytest.fixture(scope="module")
def theirs(st):
    from sentence_transformers.sparse_encoder import modules as found

    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: str(checkpoint(name, tmp_path_factory.mktemp(name), head="masked")) for name in HEADS}


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dense(rows):
    return rows.to_dense().cpu().numpy()


def assert_same_files(ours, theirs):
    """The same files, with the same settings and the same tensors under the same names."""
    from safetensors.torch import load_file

    names, others = (
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"README.md"}
        for folder in (theirs, ours)
    )
    assert others == names
    for name in names:
        if name.endswith(".json") and "tokenizer" not in name and name != "config_sentence_transformers.json":
            got, want = (json.loads((folder / name).read_text()) for folder in (ours, theirs))
            assert got == want, name
            assert list(got) == list(want), name
        elif name.endswith(".safetensors"):
            got, want = (load_file(folder / name) for folder in (ours, theirs))
            assert got.keys() == want.keys(), name
            for key, value in want.items():
                assert torch.equal(got[key], value), key


# -- SPLADE ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "activation"), WAYS)
@pytest.mark.parametrize("chunk_size", [None, -1, 1, 2, 3, 64])
def test_splade_pooling_of_whole_logits(theirs, strategy, activation, chunk_size):
    logits = numbers(4, 7, 30) * 2
    mask = (torch.arange(7) < torch.tensor([7, 3, 1, 0])[:, None]).long()
    found = []
    for home in (modules, theirs):
        module = home.SpladePooling(strategy, activation, chunk_size=chunk_size)
        leaf = logits.clone().requires_grad_()
        out = module({"token_embeddings": leaf, "attention_mask": mask})["sentence_embedding"]
        out.backward(numbers(*out.shape, seed=1))
        found.append((out.detach(), leaf.grad, module.get_embedding_dimension()))
    for got, want in zip(*found, strict=True):
        if isinstance(want, torch.Tensor):
            torch.testing.assert_close(got, want, rtol=0, atol=FORMULA_LARGE)
        else:
            assert got == want


@pytest.mark.parametrize(("strategy", "activation"), WAYS)
def test_splade_pooling_of_flattened_logits(theirs, strategy, activation):
    offsets = torch.tensor([0, 4, 5, 11], dtype=torch.int32)
    features = {"token_embeddings": numbers(1, 11, 30), "cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets}
    features |= {"max_length_q": 6, "max_length_k": 6, "seq_idx": torch.tensor([[0] * 4 + [1] + [2] * 6])}
    got, want = (
        home.SpladePooling(strategy, activation)(dict(features))["sentence_embedding"] for home in (modules, theirs)
    )
    torch.testing.assert_close(got, want, rtol=0, atol=FORMULA_LARGE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("strategy", "activation"), WAYS)
def test_splade_pooling_keeps_the_data_type(theirs, strategy, activation, dtype):
    features = {"token_embeddings": numbers(2, 5, 30).to(dtype), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    got, want = (
        home.SpladePooling(strategy, activation)(dict(features))["sentence_embedding"] for home in (modules, theirs)
    )
    assert got.dtype == want.dtype == dtype
    torch.testing.assert_close(got, want, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("arguments", [("avg",), ("max", "gelu"), (None,), ("max", None)], ids=str)
def test_splade_pooling_refuses_the_same(theirs, arguments):
    for home in (modules, theirs):
        with pytest.raises(ValueError, match=r"pooling_strategy|activation_function"):
            home.SpladePooling(*arguments)


def splade(home, folder, strategy, activation):
    return [home.Transformer(folder, transformer_task="fill-mask"), home.SpladePooling(strategy, activation)]


class Theirs:
    """Their SPLADE pooling, and the transformer that lives beside their dense modules."""

    def __init__(self, home):
        from sentence_transformers.sentence_transformer.modules import Transformer

        self.SpladePooling, self.Transformer = home.SpladePooling, Transformer


@pytest.mark.parametrize(("name", "strategy", "activation"), MODELS)
def test_splade_models(st, theirs, folders, tmp_path, name, strategy, activation):
    """Packed here, padded there; then each reads what the other has saved."""
    models = [
        cls(modules=splade(home, folders[name], strategy, activation), device="cpu")
        for cls, home in ((SparseEncoder, modules), (st.SparseEncoder, Theirs(theirs)))
    ]
    new, old = models
    want = dense(old.encode(TEXTS))
    scale = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(dense(new.encode(TEXTS)), want, atol=PACKED * scale)
    np.testing.assert_allclose(dense(new.encode(TEXTS[0])), dense(old.encode(TEXTS[0])), atol=PACKED * scale)
    new.save(str(tmp_path / "new"))
    old.save(str(tmp_path / "old"))
    assert_same_files(tmp_path / "new", tmp_path / "old")
    for cls, side in ((SparseEncoder, "old"), (st.SparseEncoder, "new")):
        again = cls(str(tmp_path / side), device="cpu")
        np.testing.assert_allclose(dense(again.encode(TEXTS)), want, atol=PACKED * scale)
        assert again[1].get_config_dict() == old[1].get_config_dict()


@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert", "roberta"])
@pytest.mark.parametrize(("strategy", "activation"), WAYS)
def test_gradients_of_a_packed_step_are_those_of_their_padded_one(theirs, folders, name, strategy, activation):
    found = []
    for home in (modules, Theirs(theirs)):
        transformer, pooling = splade(home, folders[name], strategy, activation)
        transformer.eval()
        if home is modules:
            features = transformer.pack(transformer.tokenise(TEXTS))
        else:
            features = transformer.preprocess(TEXTS)
        pooled = pooling(transformer(features))["sentence_embedding"]
        (pooled * numbers(*pooled.shape, seed=2)).sum().backward()
        found.append({key: value.grad for key, value in transformer.named_parameters() if value.grad is not None})
    got, want = found
    assert {key.split(".", 1)[1] for key in got} == {key.split(".", 1)[1] for key in want}
    for key, value in want.items():
        other = next(grad for name, grad in got.items() if name.split(".", 1)[1] == key.split(".", 1)[1])
        scale = max(1.0, float(value.abs().max()))
        torch.testing.assert_close(other, value, rtol=1e-4, atol=2e-5 * scale, msg=lambda text, at=key: f"{at} {text}")


# -- the sparse auto-encoder -------------------------------------------------------------------------------------------

ENCODERS = [
    {}, {"k": 1}, {"normalize": True}, {"k_aux": 0}, {"k_aux": 40, "dead_threshold": 0}, {"dead_threshold": 2},
    {"normalize": True, "dead_threshold": 1, "k": 10},
]  # fmt: skip


def encoders(theirs, options):
    options = {"hidden_dim": 40, "k": 3, "k_aux": 6, **options}
    pair = [home.SparseAutoEncoder(8, **options) for home in (modules, theirs)]
    with torch.no_grad():
        pair[0].pre_bias.copy_(numbers(8, seed=3))
        pair[0].latent_bias.copy_(numbers(40, seed=4))
        pair[0].encoder.weight.copy_(numbers(40, 8, seed=5))
    pair[1].load_state_dict(pair[0].state_dict())
    return pair


def assert_same(got, want):
    assert got.keys() == want.keys()
    for key, value in want.items():
        if value is None:
            assert got[key] is None, key
        else:
            torch.testing.assert_close(got[key], value, rtol=0, atol=1e-5, msg=lambda text, key=key: f"{key} {text}")


@pytest.mark.parametrize("options", ENCODERS, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("k", [None, 2])
def test_all_outputs_gradients_and_counters(theirs, options, training, k):
    pair = encoders(theirs, options)
    for step in range(4):
        leaves, outs = [], []
        for module in pair:
            module.train(training)
            module.zero_grad()
            leaves.append(numbers(6, 8, seed=step).requires_grad_())
            outs.append(module({"sentence_embedding": leaves[-1]}, max_active_dims=k))
        assert_same(*({key: value if value is None else value.detach() for key, value in out.items()} for out in outs))
        assert torch.equal(pair[0].stats_last_nonzero, pair[1].stats_last_nonzero)
        for out in outs:
            made = [value for value in out.values() if value is not None and value.requires_grad]
            sum((value * numbers(*value.shape, seed=n)).sum() for n, value in enumerate(made)).backward()
        assert_same(*({name: p.grad for name, p in module.named_parameters()} for module in pair))
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=0, atol=1e-4)
    with torch.inference_mode():
        outs = [module({"sentence_embedding": numbers(6, 8, seed=9)}, max_active_dims=k) for module in pair]
    assert_same(*outs)


def test_a_training_run_of_the_auto_encoder(theirs):
    """Ten steps down the gradient of a reconstruction: parameters and counters stay together."""
    pair = encoders(theirs, {"normalize": True, "dead_threshold": 3})
    for module in pair:
        module.train()
        optimiser = torch.optim.SGD(module.parameters(), lr=1e-2)
        for step in range(10):
            optimiser.zero_grad()
            out = module({"sentence_embedding": numbers(6, 8, seed=step)})
            loss = (out["decoded_embedding_k"] - out["sentence_embedding_backbone"]).pow(2).mean()
            loss = loss + (out["decoded_embedding_aux"] - out["sentence_embedding_backbone"]).pow(2).mean() / 32
            loss.backward()
            optimiser.step()
    assert_same(*({name: value.detach() for name, value in module.state_dict().items()} for module in pair))


@pytest.mark.parametrize("k", [11, 40, 41])
@pytest.mark.parametrize("inference", [True, False])
def test_more_units_than_there_are_fail_in_both(theirs, k, inference):
    results = []
    for module in encoders(theirs, {}):
        with torch.inference_mode(inference):
            try:
                results.append(module({"sentence_embedding": numbers(2, 8)}, max_active_dims=k)["sentence_embedding"])
            except RuntimeError:
                results.append(None)
    assert (results[0] is None) == (results[1] is None) == (k > 40 or not inference)


def test_steps_of_the_auto_encoder(theirs):
    ours, other = encoders(theirs, {"normalize": True})
    x = numbers(3, 8)
    for name, arguments in [("LN", (x,)), ("LN", (x, 0.1)), ("encode_pre_act", (x,))]:
        got, want = (getattr(module, name)(*arguments) for module in (ours, other))
        torch.testing.assert_close(got, want)
    got, want = (module.prepare(x) for module in (ours, other))
    torch.testing.assert_close(got[0], want[0])
    assert got[1].keys() == want[1].keys()
    units = ours.encode_pre_act(x)
    for arguments in [(), (2,), (2, False)]:
        torch.testing.assert_close(ours.top_k(units, *arguments), other.top_k(units, *arguments))
    torch.testing.assert_close(ours.decode(units, got[1]), other.decode(units, want[1]))
    assert ours.get_embedding_dimension() == other.get_embedding_dimension()


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("options", [{}, {"normalize": True}], ids=str)
def test_folders_of_the_auto_encoder(theirs, tmp_path, safe, options):
    ours, other = (module.eval() for module in encoders(theirs, options))
    for module, side in ((ours, "ours"), (other, "theirs")):
        (tmp_path / side).mkdir()
        module.save(str(tmp_path / side), safe_serialization=safe)
    assert_same_files(tmp_path / "ours", tmp_path / "theirs")
    for cls, side in ((modules.SparseAutoEncoder, "theirs"), (theirs.SparseAutoEncoder, "ours")):
        again = cls.load(str(tmp_path / side)).eval()
        assert again.get_config_dict() == ours.get_config_dict()
        assert again.state_dict().keys() == ours.state_dict().keys()
        for key, value in ours.state_dict().items():
            assert torch.equal(again.state_dict()[key], value)
        torch.testing.assert_close(
            again({"sentence_embedding": numbers(3, 8)})["decoded_embedding_k"],
            ours({"sentence_embedding": numbers(3, 8)})["decoded_embedding_k"],
        )


# -- weights a token ---------------------------------------------------------------------------------------------------

MIXED = [*TEXTS, "the the text", "unknown 漢 words", "a [SEP] in the text [MASK]"]


def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def statics(theirs, folder, **options):
    count = len(tokenizer(folder).get_vocab())
    return [
        home.SparseStaticEmbedding(tokenizer(folder), numbers(count, seed=6).abs(), **options)
        for home in (modules, theirs)
    ]


@pytest.mark.parametrize("name", ["bert", "roberta"])
@pytest.mark.parametrize("frozen", [True, False])
def test_static_rows_gradients_and_folders(st, theirs, folders, tmp_path, name, frozen):
    pair = statics(theirs, folders[name], frozen=frozen)
    for texts in (MIXED, MIXED[:1]):
        got, want = (module(module.preprocess(texts))["sentence_embedding"] for module in pair)
        torch.testing.assert_close(got, want)
        if not frozen:
            for module, out in zip(pair, (got, want), strict=True):
                module.zero_grad()
                (out * numbers(*out.shape, seed=7)).sum().backward()
            torch.testing.assert_close(pair[0].weight.grad, pair[1].weight.grad)
    assert pair[0].get_config_dict() == pair[1].get_config_dict()
    assert pair[0].max_seq_length == pair[1].max_seq_length
    assert pair[0].num_dimensions == pair[1].num_dimensions

    new, old = (
        cls(modules=[module], device="cpu") for cls, module in zip((SparseEncoder, st.SparseEncoder), pair, strict=True)
    )
    rows = dense(old.encode(MIXED))
    np.testing.assert_allclose(dense(new.encode(MIXED)), rows, atol=1e-7)
    np.testing.assert_allclose(dense(new.encode(MIXED, prompt="the ")), dense(old.encode(MIXED, prompt="the ")))
    new.save(str(tmp_path / "new"))
    old.save(str(tmp_path / "old"))
    assert_same_files(tmp_path / "new", tmp_path / "old")
    for cls, side in ((SparseEncoder, "old"), (st.SparseEncoder, "new")):
        again = cls(str(tmp_path / side), device="cpu")
        np.testing.assert_allclose(dense(again.encode(MIXED)), rows, atol=1e-7)
        assert again[0].frozen is frozen
        assert again[0].weight.requires_grad is not frozen


def test_static_texts_become_the_same_ids(theirs, folders):
    ours, other = statics(theirs, folders["bert"])
    for texts, options in ((MIXED, {}), (MIXED, {"prompt": "the "}), (["the " * 200, "a"], {})):
        got, want = (module.preprocess(texts, **options) for module in (ours, other))
        for key in ("input_ids", "attention_mask"):
            assert torch.equal(got[key], want[key])
            assert got[key].dtype == want[key].dtype


def test_static_rows_that_are_there_are_multiplied(theirs, folders):
    ours, other = statics(theirs, folders["bert"])
    before = numbers(2, ours.num_dimensions)
    got, want = (
        module({**module.preprocess(["the text", "a"]), "sentence_embedding": before})["sentence_embedding"]
        for module in (ours, other)
    )
    torch.testing.assert_close(got, want)


def test_static_weights_of_a_json_file(theirs, folders, tmp_path):
    (tmp_path / "idf.json").write_text(json.dumps({"the": 0.5, "text": 3, "nowhere": 9.0, "[UNK]": 1.5}))
    got, want = (
        home.SparseStaticEmbedding.from_json(str(tmp_path / "idf.json"), tokenizer(folders["bert"]), frozen=True)
        for home in (modules, theirs)
    )
    assert torch.equal(got.weight, want.weight)
    assert got.get_config_dict() == want.get_config_dict()


def test_a_word_that_the_tokenizer_lacks_leaves_the_unknown_tokens_weight_alone(theirs, folders, tmp_path):
    """The older library gives its weight to the unknown token, which then stands for every unknown word of a query."""
    (tmp_path / "idf.json").write_text(json.dumps({"[UNK]": 1.5, "nowhere": 9.0}))
    got, wanted = (
        home.SparseStaticEmbedding.from_json(str(tmp_path / "idf.json"), tokenizer(folders["bert"])).weight
        for home in (modules, theirs)
    )
    unknown = tokenizer(folders["bert"]).unk_token_id
    assert (got[unknown], wanted[unknown]) == (1.5, 9.0)
    assert got.count_nonzero() == wanted.count_nonzero() == 1


def test_settings_may_name_a_json_file_instead_of_weights(st, folders, tmp_path):
    """Theirs looks for it where the process runs, ours in the folder."""
    file = tmp_path / "model" / "idf.json"
    weights = numbers(len(tokenizer(folders["bert"]).get_vocab())).abs()
    module = modules.SparseStaticEmbedding(tokenizer(folders["bert"]), weights)
    SparseEncoder(modules=[module], device="cpu").save(str(tmp_path / "model"))
    (tmp_path / "model" / "model.safetensors").unlink()
    file.write_text(json.dumps({"the": 0.5, "text": 3, "nowhere": 9.0, "[UNK]": 1.5}))
    rows = []
    for cls, path in ((SparseEncoder, "idf.json"), (st.SparseEncoder, str(file))):
        (tmp_path / "model" / "config.json").write_text(json.dumps({"frozen": True, "path": path}))
        rows.append(dense(cls(str(tmp_path / "model"), device="cpu").encode(MIXED)))
    assert rows[0].any()
    np.testing.assert_array_equal(*rows)


def test_a_padding_token_that_a_text_holds_counts_here_and_may_not_there(theirs, folders):
    """Theirs writes padding's absence last, over the token's presence; here a token that is there counts."""
    pair = statics(theirs, folders["bert"])
    texts = ["the [PAD]", "the text " * 10]
    pad = pair[0].tokenizer.pad_token_id
    got, want = (module(module.preprocess(texts))["sentence_embedding"] for module in pair)
    alone = pair[0](pair[0].preprocess(texts[:1]))["sentence_embedding"]
    assert torch.equal(got[0], alone[0])
    assert got[0, pad] == pair[0].weight[pad]
    others = torch.arange(got.shape[1]) != pad
    torch.testing.assert_close(got[:, others], want[:, others])
