import pytest
import torch
from tests.tolerances import FORMULA_LARGE
from torch.nn import functional

from fourfold.errors import InputError, ShapeError
from fourfold.modules import CNN


def padded(lengths, width=6, longest=None):
    torch.manual_seed(1)
    mask = torch.zeros(len(lengths), longest or max(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    return {"token_embeddings": torch.randn(*mask.shape, width) * 3, "attention_mask": mask}


def alone(module, tokens):
    """The plain twin: torch's own convolutions over one text."""
    return torch.cat([conv(tokens.T[None])[0].T for conv in module.convs], dim=-1)


@pytest.mark.parametrize(
    ("kernels", "strides"), [([1, 3, 5], None), ([7], None), ([2], None), ([4, 2], None), ([3], [2]), ([5, 1], [3, 3])]
)
def test_each_text_is_convolved_as_if_it_were_alone(kernels, strides):
    torch.manual_seed(0)
    module = CNN(6, 4, kernels, strides)
    lengths = [9, 4, 1, 6]
    features = padded(lengths, longest=12)
    least = max(kernel - 2 * ((kernel - 1) // 2) for kernel in kernels)
    wanted = [
        alone(module, text[:length]) if length >= least else torch.zeros(0, 4 * len(kernels))
        for text, length in zip(features["token_embeddings"], lengths, strict=True)
    ]
    out = module(dict(features))
    for row, want in enumerate(wanted):
        got = out["token_embeddings"][row][out["attention_mask"][row] == 1]
        torch.testing.assert_close(got, want, atol=FORMULA_LARGE, rtol=0)


def test_the_mask_stays_where_each_token_keeps_a_vector():
    features = padded([3, 2])
    out = CNN(6)(dict(features))
    assert out["attention_mask"] is features["attention_mask"]
    assert out["token_embeddings"].shape == (2, 3, 768)
    assert not out["token_embeddings"][1, 2].any()


def test_shorter_texts_get_a_mask_of_their_own_and_come_out_padded():
    module = CNN(6, 2, [3], [2])
    assert (module.packed, CNN(6).packed) == (False, True)
    out = module(padded([5, 2]))
    assert out["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert out["sentence_lengths"].tolist() == [3, 1]
    offsets = torch.tensor([0, 5, 7], dtype=torch.int32)
    packed = {"token_embeddings": torch.randn(1, 7, 6), "cu_seq_lens_q": offsets, "packing": None}
    out = module(packed)
    assert out["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert not {"cu_seq_lens_q", "packing"} & out.keys()


def test_texts_without_words():
    out = CNN(6, 2, [3])(padded([0, 0], longest=1))
    assert out["token_embeddings"].tolist() == [[[0.0] * 2]] * 2
    out = CNN(6, 2, [2])(padded([1, 1]))  # one word is too short for a kernel of two
    assert out["attention_mask"].tolist() == [[0], [0]]


def test_weights_and_settings():
    module = CNN(6, 4, (1, 3))
    assert {key: tuple(value.shape) for key, value in module.state_dict().items()} == {
        "convs.0.weight": (4, 6, 1), "convs.0.bias": (4,), "convs.1.weight": (4, 6, 3), "convs.1.bias": (4,),
    }  # fmt: skip
    assert (module.kernel_sizes, module.stride_sizes) == ([1, 3], [1, 1])
    assert module.get_embedding_dimension() == module.embeddings_dimension == 8


def test_no_memory_is_kept_for_every_length_met():
    """Convolutions of torch keep a plan for each shape on a CPU; products of few sizes do not."""
    module, called = CNN(6, 4, [3]), []
    for conv in module.convs:
        conv.register_forward_hook(lambda *_: called.append(1))
    module(padded([3, 2]))
    assert not called
    got = module(padded([4]))["token_embeddings"][0]
    conv, tokens = module.convs[0], padded([4])["token_embeddings"]
    want = functional.conv1d(tokens.transpose(1, 2), conv.weight, conv.bias, padding=1)[0].T
    torch.testing.assert_close(got, want, atol=FORMULA_LARGE, rtol=0)


def test_kernels_that_disagree_are_an_error_that_names_them():
    with pytest.raises(ShapeError, match=r"kernel_sizes \[1, 2\] with stride_sizes \[1, 1\]"):
        CNN(6, 4, [1, 2])(padded([3]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0,), "positive numbers"),
        ((6, 4, []), "positive numbers"),
        ((6, 4, [3, 0]), "positive numbers"),
        ((6, 4, [3, 5], [1]), "one step for each of kernel_sizes"),
    ],
)
def test_sizes_that_are_none_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        CNN(*arguments)
