"""Where a model is, who moves it, and what precision it has."""

import warnings

import numpy as np
import pytest
import torch
from tests import tolerances
from tests.support import TEXTS, load

from fourfold import SentenceTransformer
from fourfold.families._placement import best_device
from fourfold.modules import Dense, Normalize, Pooling, Transformer
from fourfold.testing import WIDTH, checkpoint, tiny, tiny_folder


def test_a_model_without_parameters_is_on_the_cpu():
    model = SentenceTransformer(modules=[Normalize()], device="cpu")
    assert model.device == torch.device("cpu")
    assert model.dtype is None


def test_modules_after_the_first_take_its_type(tmp_path):
    folder = str(checkpoint("bert", tmp_path))
    modules = [Transformer(folder, model_kwargs={"dtype": torch.bfloat16}), Pooling(WIDTH), Dense(WIDTH, 4)]
    model = SentenceTransformer(modules=modules, device="cpu")
    assert model[2].linear.weight.dtype == torch.bfloat16
    assert model.dtype == torch.bfloat16
    assert model.encode("a").shape == (4,)


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


def test_the_device_of_what_has_no_parameters():
    model = SentenceTransformer(modules=[Normalize()], device="cpu")
    model[0].table = torch.zeros(1, device="meta")
    assert model.device == torch.device("meta")
    model[0].register_buffer("other", torch.zeros(1))
    assert model.device == torch.device("cpu")


def test_the_device_is_the_backbones():
    model = SentenceTransformer(modules=[torch.nn.Linear(2, 2), tiny()[0]], device="cpu")
    model[0].to("meta")
    assert model.device == torch.device("cpu")
    with pytest.raises(AttributeError):
        model.device = "cpu"


def test_the_older_name_of_the_device(caplog):
    model = tiny()
    assert model._target_device == torch.device("cpu")
    model._target_device = "cpu"
    assert [message.partition(" is")[0] for message in caplog.messages] == ["SentenceTransformer._target_device"] * 2


@pytest.mark.parametrize("cast", ["half", "bfloat16", "float", "double"])
def test_casts_return_the_model(cast):
    model = tiny()
    assert getattr(model, cast)() is model
    assert model.to(torch.float32) is model
    assert model.cpu() is model
    assert model.dtype == torch.float32


def test_a_call_moves_the_model_for_good():
    model = tiny()
    model.encode("a", device="cpu")
    assert model.device == torch.device("cpu")
    with pytest.raises((NotImplementedError, RuntimeError)):
        model.encode("a", device="meta")
    assert model.device == torch.device("meta")


def test_a_model_on_meta_cannot_be_moved():
    model = tiny()
    model.to("meta")
    with pytest.raises(RuntimeError):
        model.to("cpu")


# -- low precision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [({}, 1), ({"model_kwargs": {"dtype": "auto"}}, 1), ({"model_kwargs": {"dtype": "float16"}}, 0),
     ({"model_kwargs": {"torch_dtype": torch.float16}}, 0), ({"dtype": torch.float16}, 0)],
)  # fmt: skip
def test_half_precision_that_nobody_asked_for_is_told_once(tmp_path, caplog, options, told):
    tiny().half().save(tmp_path / "m")
    for _ in range(2):
        assert load(tmp_path / "m", **options).dtype == torch.float16
    assert sum("torch.float32 may be much faster" in message for message in caplog.messages) == told


def test_modules_that_are_given_are_taken_as_they_are(caplog):
    SentenceTransformer(modules=[*tiny().half()], device="cpu")
    assert not caplog.messages


# -- accelerate --------------------------------------------------------------------------------------------------------


@pytest.fixture
def dispatched():
    """A model that was loaded with a device map, and has a module beside its backbone."""
    pytest.importorskip("accelerate")
    return SentenceTransformer(str(tiny_folder()), model_kwargs={"device_map": "cpu"})


def test_a_device_map_places_the_model(caplog):
    pytest.importorskip("accelerate")
    model = load(tiny_folder(), model_kwargs={"device_map": "cpu"}, device="cpu")
    assert "device=cpu is ignored" in caplog.text
    assert model._placement_is_delegated
    np.testing.assert_allclose(model.encode(TEXTS), load(tiny_folder()).encode(TEXTS), rtol=0, atol=tolerances.BATCH)


def test_a_call_does_not_move_it(dispatched, caplog):
    for _ in range(2):
        dispatched.encode("a", device="meta")
    assert sum("device=meta is ignored" in message for message in caplog.messages) == 1
    assert dispatched.device == torch.device("cpu")


def test_modules_beside_the_backbone_follow_it(dispatched):
    dispatched.append(Dense(WIDTH, 4).to(torch.float64))
    dispatched.clear_placement_cache()
    assert dispatched.encode("a", device=None).shape == (4,)
    assert dispatched[3].linear.weight.dtype == torch.float32


@pytest.mark.parametrize("move", [lambda m: m.to("cpu"), lambda m: m.cpu(), lambda m: m.to(device="cpu")])
def test_moving_takes_the_placement_over(dispatched, move):
    assert dispatched.half()._placement_is_delegated
    assert dispatched.to(torch.float32)._placement_is_delegated
    move(dispatched)
    assert not dispatched._placement_is_delegated


def test_hooks_are_read_once_until_the_cache_is_cleared(caplog):
    hooks = pytest.importorskip("accelerate.hooks")
    model = tiny()
    assert not model._placement_is_delegated
    hooks.add_hook_to_module(model[0].model, hooks.AlignDevicesHook(execution_device="cpu"))
    assert not model._placement_is_delegated
    model.clear_placement_cache()
    assert model._placement_is_delegated
    assert model.device == torch.device("cpu")
    assert model.encode("a", device="meta").shape == (WIDTH,)
    for _ in range(2):
        model.to("cpu")
    assert sum("should not be moved" in message for message in caplog.messages) == 1
    assert model._placement_is_delegated
    hooks.remove_hook_from_module(model[0].model)
    model.clear_placement_cache()
    assert not model._placement_is_delegated


def test_an_offloaded_model_runs_and_cannot_be_moved():
    accelerate = pytest.importorskip("accelerate")
    model = tiny()
    want = model.encode(TEXTS)
    accelerate.cpu_offload(model[0].model, execution_device=torch.device("cpu"))
    model.clear_placement_cache()
    assert next(model.parameters()).is_meta
    assert model.device == torch.device("cpu")
    np.testing.assert_allclose(model.encode(TEXTS), want, rtol=0, atol=tolerances.PACKED)
    for move in (lambda: model.to("cpu"), model.cpu, model.half, lambda: model.to(torch.float16)):
        with pytest.raises(RuntimeError, match="offloaded"):
            move()


# -- which device ------------------------------------------------------------------------------------------------------


class Library:
    """Stands for torch.cuda and its like."""

    def __init__(self, available, count=1):
        self.is_available, self.device_count = (lambda: available), (lambda: count)


@pytest.mark.parametrize(
    ("there", "want"),
    [((), "cpu"), (("hpu",), "hpu"), (("hpu", "xpu"), "xpu"), (("xpu", "mps"), "mps"),
     (("mps", "cuda", "xpu"), "cuda")],
)  # fmt: skip
def test_the_best_device(monkeypatch, there, want):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for name in ("cuda", "npu", "xpu", "hpu"):
        monkeypatch.setattr(torch, name, Library(name in there), raising=False)
    monkeypatch.setattr(torch.backends, "mps", Library("mps" in there))
    assert best_device().type == want


@pytest.mark.parametrize(("rank", "want"), [(None, 0), ("1", 1), ("5", 0), ("x", 0)])
def test_the_local_rank_chooses_the_gpu(monkeypatch, rank, want):
    monkeypatch.setattr(torch, "cuda", Library(True, 2))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert best_device() == torch.device("cuda", want)


def test_the_distributed_rank_chooses_the_gpu(monkeypatch):
    monkeypatch.setattr(torch, "cuda", Library(True, 2))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    assert best_device() == torch.device("cuda", 1)
