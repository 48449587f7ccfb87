import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests import tolerances

from fourfold.errors import InputError, MissingFeatureError, ShapeError, WeightsError
from fourfold.modules import SparseAutoEncoder
from fourfold.modules.sparse_auto_encoder import TiedTranspose

OUTPUTS = {
    "sentence_embedding", "sentence_embedding_backbone", "sentence_embedding_encoded", "sentence_embedding_encoded_4k",
    "auxiliary_embedding", "decoded_embedding_k", "decoded_embedding_4k", "decoded_embedding_aux",
    "decoded_embedding_k_pre_bias",
}  # fmt: skip


def rows(count=5, width=8, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def made(**options):
    """A module whose biases are not the zeros that they begin with."""
    torch.manual_seed(1)
    module = SparseAutoEncoder(**{"input_dim": 8, "hidden_dim": 40, "k": 3, "k_aux": 5, **options})
    with torch.no_grad():
        module.pre_bias.normal_()
        module.latent_bias.normal_()
    return module


def naive(module, dense, k):
    """One number at a time: the units of a row, the ``k`` largest of them, and what these decode to."""
    weight, before = module.encoder.weight.tolist(), module.pre_bias.tolist()
    units, decoded = [], []
    for vector in dense.tolist():
        mean, deviation = 0.0, 1.0
        if module.normalize:
            mean = sum(vector) / len(vector)
            deviation = math.sqrt(sum((x - mean) ** 2 for x in vector) / (len(vector) - 1))
            vector = [(x - mean) / (deviation + 1e-5) for x in vector]
        raw = [
            sum(w * (x - b) for w, x, b in zip(line, vector, before, strict=True)) + shift
            for line, shift in zip(weight, module.latent_bias.tolist(), strict=True)
        ]
        kept = sorted(range(len(raw)), key=lambda unit: -raw[unit])[:k]
        active = [max(value, 0.0) if unit in kept else 0.0 for unit, value in enumerate(raw)]
        units.append(active)
        back = [sum(a * line[i] for a, line in zip(active, weight, strict=True)) + b for i, b in enumerate(before)]
        decoded.append([x * deviation + mean if module.normalize else x for x in back])
    return torch.tensor(units), torch.tensor(decoded)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("k", [None, 1, 10])
def test_formulas(normalize, k):
    module, dense = made(normalize=normalize), rows()
    units, decoded = naive(module, dense, k or 3)
    out = module({"sentence_embedding": dense}, max_active_dims=k)
    torch.testing.assert_close(out["sentence_embedding"], units, rtol=0, atol=tolerances.FORMULA_LARGE)
    torch.testing.assert_close(out["decoded_embedding_k"], decoded, rtol=0, atol=tolerances.FORMULA_LARGE)
    four, decoded = naive(module, dense, 4 * (k or 3))
    torch.testing.assert_close(out["sentence_embedding_encoded_4k"], four, rtol=0, atol=tolerances.FORMULA_LARGE)
    torch.testing.assert_close(out["decoded_embedding_4k"], decoded, rtol=0, atol=tolerances.FORMULA_LARGE)
    assert out["sentence_embedding_backbone"] is dense
    assert out.keys() == OUTPUTS


@pytest.mark.parametrize("normalize", [True, False])
def test_in_inference_mode_only_the_active_units_are_made(normalize):
    module, dense = made(normalize=normalize), rows()
    wanted = module({"sentence_embedding": dense})["sentence_embedding"]
    with torch.inference_mode():
        out = module({"sentence_embedding": dense})
    assert out.keys() == {"sentence_embedding"}
    assert torch.equal(out["sentence_embedding"], wanted)


def test_no_more_than_k_are_active_and_none_is_negative():
    active = made()({"sentence_embedding": rows(50)})["sentence_embedding"]
    assert ((active != 0).sum(dim=1) <= 3).all()
    assert (active >= 0).all()


def test_the_decoder_is_the_encoder_turned():
    module = made()
    assert isinstance(module.decoder, TiedTranspose)
    assert module.decoder.linear is module.encoder
    assert torch.equal(module.decoder.weight, module.encoder.weight.T)
    assert module.decoder.bias is None
    assert sorted(name for name, _ in module.named_parameters()) == ["encoder.weight", "latent_bias", "pre_bias"]


# -- silent units ------------------------------------------------------------------------------------------------------


def test_silent_units_are_counted_twice_a_training_step():
    module, dense = made().train(), rows()
    for step in (1, 2, 3):
        out = module({"sentence_embedding": dense})
        ever = (out["sentence_embedding"] > 1e-5).any(dim=0)
        more = (out["sentence_embedding_encoded_4k"] > 1e-5).any(dim=0)
        count = module.stats_last_nonzero
        assert (count[more] == 1).all()
        assert (count[~more] == 2 * step).all()
        assert not (ever & ~more).any()
    assert count.dtype == torch.int64


@pytest.mark.parametrize("when", ["eval", "no_grad", "inference"])
def test_nothing_is_counted_outside_training(when):
    module = made().train(when != "eval")
    mode = {"eval": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}[when]
    with mode():
        module({"sentence_embedding": rows()})
    assert not module.stats_last_nonzero.any()


def test_silent_units_alone_stand_in_the_auxiliary_output():
    module = made(dead_threshold=2).train()
    for _ in range(3):
        out = module({"sentence_embedding": rows()})
    silent = module.stats_last_nonzero > 2
    auxiliary = out["auxiliary_embedding"]
    assert silent.any()
    assert not auxiliary[:, ~silent].any()
    assert ((auxiliary != 0).sum(dim=1) <= 5).all()
    want = auxiliary @ module.encoder.weight + module.pre_bias
    torch.testing.assert_close(out["decoded_embedding_aux"], want)


def test_without_auxiliary_units_there_is_no_output_of_them():
    out = made(k_aux=0)({"sentence_embedding": rows()})
    assert out["auxiliary_embedding"] is None
    assert out["decoded_embedding_aux"] is None


# -- steps -------------------------------------------------------------------------------------------------------------


def test_normalising_can_be_undone():
    module, dense = made(normalize=True), rows()
    scaled, info = module.prepare(dense)
    torch.testing.assert_close(scaled.mean(dim=1), torch.zeros(5), rtol=0, atol=tolerances.FORMULA)
    torch.testing.assert_close(scaled * (info["std"] + 1e-5) + info["mu"], dense)
    scaled, mean, deviation = module.LN(dense, eps=0.5)
    torch.testing.assert_close(scaled, (dense - mean) / (deviation + 0.5))


def test_decoding_needs_to_know_what_was_undone():
    with pytest.raises(InputError, match="decode needs info, which prepare gives"):
        made(normalize=True).decode(torch.zeros(2, 40))
    torch.testing.assert_close(made().decode(torch.zeros(1, 40))[0], made().pre_bias)


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"input_dim": 0}, "input_dim"), ({"hidden_dim": -1}, "hidden_dim"), ({"k": 0}, "k"), ({"k_aux": -1}, "k_aux"),
        ({"k": 2.5}, "k"), ({"k": True}, "k"), ({"hidden_dim": "9"}, "hidden_dim"),
        ({"dead_threshold": None}, "dead_threshold"),
    ],
    ids=str,
)  # fmt: skip
def test_sizes_that_are_none_are_errors(sizes, named):
    with pytest.raises(InputError, match=f"^{named} must be a whole number of at least"):
        SparseAutoEncoder(**{"input_dim": 4, **sizes})


@pytest.mark.parametrize(
    ("options", "given", "named"),
    [({}, 41, "41 cannot be kept"), ({}, 11, "44 cannot be kept"), ({"k_aux": 41}, None, "41 cannot be kept .k_aux")],
)
def test_more_units_than_there_are(options, given, named):
    with pytest.raises(ShapeError, match=f"has 40 units, of which {named}") as caught:
        made(**options)({"sentence_embedding": rows()}, max_active_dims=given)
    assert isinstance(caught.value, RuntimeError)


def test_in_inference_mode_only_k_units_are_needed():
    with torch.inference_mode():
        out = made(k_aux=41)({"sentence_embedding": rows()}, max_active_dims=40)
    assert out["sentence_embedding"].shape == (5, 40)


def test_vectors_of_another_width_are_an_error():
    with pytest.raises(ShapeError, match=r"SparseAutoEncoder takes a 'sentence_embedding' of width 8, got .*\(2, 9\)"):
        made()({"sentence_embedding": torch.zeros(2, 9)})
    with pytest.raises(MissingFeatureError, match="sentence_embedding"):
        made()({})


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False])
def test_a_folder_holds_the_tied_weight_and_loads(tmp_path, safe):
    module = made().train()
    module({"sentence_embedding": rows()})
    module.save(str(tmp_path), safe_serialization=safe)
    if safe:
        assert sorted(load_file(tmp_path / "model.safetensors")) == [
            "decoder.linear.weight", "latent_bias", "pre_bias", "stats_last_nonzero",
        ]  # fmt: skip
    again = SparseAutoEncoder.load(str(tmp_path))
    assert again.decoder.linear is again.encoder
    for name, value in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


@pytest.mark.parametrize("name", ["encoder.weight", "decoder.linear.weight"])
def test_the_tied_weight_may_have_either_name(tmp_path, name):
    module = made()
    module.save(str(tmp_path))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[name] = tensors.pop("decoder.linear.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    again = SparseAutoEncoder.load(str(tmp_path))
    assert torch.equal(again.encoder.weight, module.encoder.weight)
    assert torch.equal(again.decoder.weight.T, module.encoder.weight)


def test_neither_name_is_an_error_that_names_both(tmp_path):
    made().save(str(tmp_path))
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["decoder.linear.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"missing key 'encoder.weight'") as caught:
        SparseAutoEncoder.load(str(tmp_path))
    assert "decoder.linear.weight" in str(caught.value)
