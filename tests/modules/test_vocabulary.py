import copy
import pickle
import threading

import pytest
import torch
from tests.support import TEXTS, needs_packing
from tests.tolerances import BFLOAT_GRADIENT, PACKED
from torch import nn
from torch.nn import functional

from fourfold.modules import Pooling, SpladePooling, Transformer, _vocabulary
from fourfold.modules._base import needed
from fourfold.ops.linear import _Inference
from fourfold.ops.splade import VocabularyLogits
from fourfold.testing import checkpoint

HEADS = ("albert", "bert", "camembert", "distilbert", "electra", "modernbert", "roberta", "xlm_roberta")
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")

# What peft calls is on its way out of transformers.
pytestmark = [needs_packing, pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing.*:FutureWarning")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: str(checkpoint(name, tmp_path_factory.mktemp(name), head="masked")) for name in HEADS}


@pytest.fixture
def module(folders):
    return masked(folders["bert"])


def masked(folder, **options):
    options = {"config_kwargs": dict.fromkeys(DROPOUTS, 0.0), **options}
    return Transformer(folder, transformer_task="fill-mask", **options).eval()


def packed(module, texts=TEXTS):
    return module(module.pack(module.tokenise(list(texts))))


def own(features):
    """Whole logits of packed texts, without filling."""
    return needed(dict(features), "token_embeddings", None)[0, : int(features["cu_seq_lens_q"][-1])]


def whole(module, texts=TEXTS):
    features = module.preprocess(list(texts))
    return module(dict(features))["token_embeddings"][features["attention_mask"] == 1]


# -- which models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_logits_of_packed_texts_are_left_out_and_are_the_models(folders, name):
    module = masked(folders[name])
    with torch.inference_mode():
        features = packed(module)
        assert isinstance(features["token_embeddings"], VocabularyLogits)
        assert features["token_embeddings"].states.shape[-1] < module.config.vocab_size
        torch.testing.assert_close(own(features), whole(module), rtol=0, atol=20 * PACKED)


def test_padded_texts_have_whole_logits(module):
    assert isinstance(module(module.preprocess(TEXTS))["token_embeddings"], torch.Tensor)


def test_texts_that_somebody_else_has_flattened_have_whole_logits(module):
    features = module.pack(module.tokenise(TEXTS))
    del features["packing"]
    want = own(packed(module))
    features = module(features)
    assert isinstance(features["token_embeddings"], torch.Tensor)
    torch.testing.assert_close(own(features), want, rtol=0, atol=PACKED)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(folders, dtype):
    module = masked(folders["bert"], model_kwargs={"dtype": dtype})
    logits = packed(module)["token_embeddings"]
    assert isinstance(logits, VocabularyLogits)
    assert logits.whole().dtype == dtype


def test_other_tasks_know_nothing_of_it(folders):
    module = Transformer(folders["bert"]).eval()
    assert module.packed
    assert isinstance(packed(module)["token_embeddings"], torch.Tensor)


def test_what_a_token_holds_is_not_the_vocabulary(folders):
    module = masked(folders["bert"])
    assert module.widest == module.config.intermediate_size
    module.unpad_inputs = False
    assert module.widest == module.config.vocab_size
    assert masked(folders["bert"], unpad_inputs=False).widest == module.config.vocab_size


def replaced(module):
    decoder = module.model.cls.predictions.decoder
    module.model.cls.predictions.decoder = nn.Sequential(decoder)


def wrapped(module):
    decoder = module.model.cls.predictions.decoder
    forward = decoder.forward
    decoder.forward = lambda states: forward(states) * 2


def heard(module):
    module.model.cls.predictions.decoder.register_forward_hook(lambda layer, given, out: out * 2)


def overheard(module):
    module.model.cls.predictions.decoder.register_full_backward_hook(lambda layer, given, out: None)


def parametrised(module):
    torch.nn.utils.parametrizations.spectral_norm(module.model.cls.predictions.decoder)


def subclassed(module):
    class Twice(nn.Linear):
        def forward(self, states):
            return 2 * super().forward(states)

    module.model.cls.predictions.decoder.__class__ = Twice


@pytest.mark.parametrize("change", [replaced, wrapped, heard, overheard, parametrised, subclassed])
def test_a_projection_that_is_more_than_a_linear_layer_is_computed(module, change):
    change(module)
    features = packed(module)
    assert isinstance(features["token_embeddings"], torch.Tensor)
    torch.testing.assert_close(own(features), whole(module), rtol=0, atol=20 * PACKED)


def test_an_adapter_below_the_projection_changes_nothing(module):
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
    module.model = peft.get_peft_model(module.model, settings).eval()
    features = packed(module)
    assert isinstance(features["token_embeddings"], VocabularyLogits)
    torch.testing.assert_close(own(features), whole(module), rtol=0, atol=20 * PACKED)


def test_an_adapter_of_the_projection_is_computed(module):
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(r=4, target_modules=["query", "decoder"], init_lora_weights=False)
    module.model = peft.get_peft_model(module.model, settings).eval()
    features = packed(module)
    assert isinstance(features["token_embeddings"], torch.Tensor)
    torch.testing.assert_close(own(features), whole(module), rtol=0, atol=20 * PACKED)


class _Capped(nn.Module):
    """A model whose logits are not what its projection gives."""

    def __init__(self, model):
        super().__init__()
        self.inner, self.config = model, model.config

    def get_output_embeddings(self):
        return self.inner.get_output_embeddings()

    def forward(self, input_ids, position_ids, token_type_ids=None):
        return (self.inner(input_ids, position_ids=position_ids, token_type_ids=token_type_ids).logits.tanh(),)


def test_the_numbers_decide(module):
    assert _vocabulary.can_be_left_out(module.model, 0, 50)
    assert not _vocabulary.can_be_left_out(_Capped(module.model), 0, 50)


def test_asking_leaves_the_model_as_it_was(module):
    for training in (True, False):
        module.model.train(training)
        _vocabulary.can_be_left_out(module.model, 0, 50)
        assert module.model.training is training


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies(module, copied):
    again = copied(module)
    features = packed(again)
    assert features["token_embeddings"].weight is again.model.get_output_embeddings().weight
    torch.testing.assert_close(own(features), own(packed(module)), rtol=0, atol=PACKED)


# -- who reads them ----------------------------------------------------------------------------------------------------


def test_any_other_module_reads_whole_logits(module):
    size = module.config.vocab_size
    features = module.preprocess(TEXTS)
    want = Pooling(size, "mean")(module(features))["sentence_embedding"]
    got = Pooling(size, "mean")(packed(module))
    torch.testing.assert_close(got["sentence_embedding"], want, rtol=0, atol=20 * PACKED)
    assert isinstance(got["token_embeddings"], torch.Tensor)


@pytest.mark.parametrize("output_value", ["token_embeddings", None])
def test_encode_hands_out_whole_logits(module, output_value):
    from fourfold import SentenceTransformer

    model = SentenceTransformer(modules=[module, SpladePooling()], device="cpu")
    got = model.encode(TEXTS, output_value=output_value, convert_to_numpy=False)
    want = whole(module).split(module.tokenise(TEXTS).lengths.tolist())
    for row, logits in zip(got, want, strict=True):
        row = row if output_value else row["token_embeddings"][: len(logits)]
        torch.testing.assert_close(row, logits, rtol=0, atol=20 * PACKED)


@pytest.mark.parametrize("strategy", ["max", "sum", "mean"])
def test_pooled_as_whole_ones_are(module, strategy):
    pooling = SpladePooling(strategy)
    want = pooling(module(module.preprocess(TEXTS)))["sentence_embedding"]
    torch.testing.assert_close(pooling(packed(module))["sentence_embedding"], want, rtol=1e-5, atol=20 * PACKED)


# -- the way back ------------------------------------------------------------------------------------------------------


def trained(module, features, autocast=False):
    module.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        pooled = SpladePooling()(module(features))["sentence_embedding"]
    pooled.float().pow(2).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in module.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert", "roberta"])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_gradients_are_those_of_whole_logits(folders, name, checkpointing):
    """Embeddings are tied to the projection in all of these, so that their gradient has two parts."""
    module = masked(folders[name])
    assert module.model.get_input_embeddings().weight is module.model.get_output_embeddings().weight
    want = trained(module, module.preprocess(TEXTS))
    if checkpointing:
        enable = getattr(module.model, "activation_checkpointing_enable", None)
        (enable or module.model.gradient_checkpointing_enable)()
        module.train()
    features = module.pack(module.tokenise(TEXTS))
    got = trained(module, features)
    assert isinstance(features["token_embeddings"], VocabularyLogits)
    assert got.keys() == want.keys()
    for key, value in want.items():
        torch.testing.assert_close(got[key], value, rtol=1e-4, atol=1e-5 * max(1, float(value.abs().max())))


def test_gradients_under_autocast(module):
    want = trained(module, module.preprocess(TEXTS))
    got = trained(module, module.pack(module.tokenise(TEXTS)), autocast=True)
    assert got.keys() == want.keys()
    for key, value in want.items():
        assert got[key].dtype == torch.float32
        if value.norm() > 1e-3:  # a key's bias moves all scores of a query alike, so that its gradient is rounding
            assert functional.cosine_similarity(got[key].flatten(), value.flatten(), dim=0) > BFLOAT_GRADIENT, key


# -- the context -------------------------------------------------------------------------------------------------------


def test_only_that_layer_is_left_out():
    first, second, states = nn.Linear(4, 4), nn.Linear(4, 4), torch.randn(2, 4)
    with _vocabulary.left_out(second) as seen:
        assert torch.equal(second(first(states)), functional.linear(states, first.weight, first.bias))
    assert seen.met == 1
    assert torch.equal(second(states), functional.linear(states, second.weight, second.bias))


def test_inside_another_choice_of_library():
    layer, states = nn.Linear(64, 8), torch.randn(70, 64)
    other = nn.Linear(64, 64)
    with torch.inference_mode():
        want = other(states)
        with _Inference(onednn=True), _vocabulary.left_out(layer):
            torch.testing.assert_close(layer(other(states)), want)


def test_other_threads_and_later_calls_compute_it():
    layer, states, found = nn.Linear(4, 5), torch.randn(2, 4), []

    def fail():
        with _vocabulary.left_out(layer):
            thread = threading.Thread(target=lambda: found.append(layer(states)))
            thread.start()
            thread.join()
            assert layer(states) is states
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert found[0].shape == (2, 5)
    assert layer(states).shape == (2, 5)
