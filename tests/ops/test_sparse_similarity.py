import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tolerances import FORMULA, FORMULA_LARGE

from fourfold.errors import InputError, ShapeError
from fourfold.ops import sparse_similarity
from fourfold.ops.similarity import compare, euclidean_sim, is_sparse
from fourfold.ops.sparse_similarity import Entries, compare_sparse

NAMES = ["cosine", "dot", "euclidean", "manhattan"]
LAYOUTS = ["coo", "csr", "csc", "dense"]


def rows(count, width=40, seed=0, share=0.2):
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(count, width, generator=generator) < share
    return torch.where(chosen, torch.randn(count, width, generator=generator), torch.zeros(()))


def laid(vectors, layout):
    convert = {"coo": vectors.to_sparse, "csr": vectors.to_sparse_csr, "csc": vectors.to_sparse_csc}
    return convert.get(layout, vectors.clone)()


@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_pair_of_layouts_gives_what_dense_vectors_give(name, first, second):
    a, b = rows(6), rows(9, seed=1)
    a[2] = 0
    found = compare(name, laid(a, first), laid(b, second))
    torch.testing.assert_close(found, compare(name, a, b), atol=FORMULA_LARGE, rtol=0)
    found = compare(name, laid(a, first), laid(b[:6], second), pairwise=True)
    torch.testing.assert_close(found, compare(name, a, b[:6], pairwise=True), atol=FORMULA_LARGE, rtol=0)


few = st.lists(st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.5, -2.0, 0.25]), min_size=6, max_size=6), max_size=7).map(
    lambda some: torch.tensor(some).reshape(-1, 6)
)


@given(few, few, st.sampled_from(NAMES), st.integers(1, 4))
def test_rows_of_any_kind_and_any_blocks(a, b, name, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_similarity, "_TABLE", size * 6)
        patch.setattr(sparse_similarity, "_LONGEST", size)
        patch.setattr(sparse_similarity, "_ENTRIES", size)
        patch.setattr(sparse_similarity, "_PAIRS", size)
        for meeting in (0, 10**9):  # always by pairs of entries, and never
            patch.setattr(sparse_similarity, "_MEETING", meeting)
            found = compare(name, a.to_sparse(), b.to_sparse())
            torch.testing.assert_close(found, compare(name, a, b), atol=FORMULA_LARGE, rtol=0)


def test_entries_of_one_place_add_up_and_may_cancel():
    twice = torch.sparse_coo_tensor([[0, 0, 1, 1], [2, 2, 0, 0]], [1.0, 2.0, 4.0, -4.0], (2, 3), check_invariants=False)
    assert compare("dot", twice, torch.eye(3).to_sparse()).tolist() == [[0, 0, 3], [0, 0, 0]]
    assert compare("cosine", twice, twice).tolist() == [[1, 0], [0, 0]]
    assert compare("manhattan", twice, twice).tolist() == [[0, -3], [-3, 0]]
    assert compare("euclidean", twice, twice, pairwise=True).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    a, b = (rows(5, seed=seed).to(dtype) for seed in (0, 1))
    for name in NAMES:
        found = compare(name, a.to_sparse(), b.to_sparse())
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, compare(name, a.float(), b.float()), atol=FORMULA_LARGE, rtol=0)


def test_float64_stays():
    a, b = (rows(5, seed=seed).double() for seed in (0, 1))
    for name in NAMES:
        found = compare(name, a.to_sparse(), b.to_sparse())
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, compare(name, a, b), atol=1e-12, rtol=0)


def test_near_rows_keep_their_distance():
    # Of squares that are a million times the distance's, float32 keeps nothing of it.
    a = rows(4) * 100
    b = a.clone()
    b[0, a[0].nonzero()[0]] += 0.01
    found = euclidean_sim(a.to_sparse(), b.to_sparse())
    assert found.diag()[1:].tolist() == [0, 0, 0]
    assert found[0, 0].item() == pytest.approx(-(a - b).double().norm().item(), rel=1e-4)
    torch.testing.assert_close(found, euclidean_sim(a.double(), b.double()).float(), atol=FORMULA, rtol=1e-5)


@pytest.mark.parametrize("pairwise", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_dense_vectors(name, pairwise):
    a, b = rows(5).double(), rows(5, seed=1).double()
    a[3] = 0
    b[2] = a[2]
    shape = (5,) if pairwise else (5, 5)
    outer = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = []
    for layout in ("coo", "dense"):
        leaves = [v.clone().requires_grad_() for v in (a, b)]
        given_ = [v.to_sparse() if layout == "coo" else v for v in leaves]
        scores = compare(name, *given_, pairwise=pairwise)
        if name == "euclidean":  # the slope of a root at 0 is no number for dense vectors
            scores = scores.masked_fill(scores == 0, 0) if layout == "coo" else scores
        (scores * outer).sum().backward()
        found.append([torch.where(v != 0, leaf.grad, 0) for v, leaf in zip((a, b), leaves, strict=True)])
    for mine, wanted in zip(*found, strict=True):
        kept = ~wanted.isnan()
        assert mine.isfinite().all()
        torch.testing.assert_close(mine[kept], wanted[kept], atol=1e-6, rtol=0)


def test_neither_side_becomes_dense(monkeypatch):
    width = 10**7  # a hundred such rows would take 4 GB

    def few_entries(seed):
        generator = np.random.default_rng(seed)
        place = np.stack([np.repeat(np.arange(100), 8), generator.integers(0, 500, 800)])
        weights = torch.from_numpy(generator.random(800, dtype=np.float32))
        return torch.sparse_coo_tensor(torch.from_numpy(place), weights, (100, width), check_invariants=False)

    a, b = few_entries(0), few_entries(1)
    sizes = []
    for maker in ("new_zeros", "new_empty"):
        original = getattr(torch.Tensor, maker)

        def make(self, *shape, original=original, **options):
            made = original(self, *shape, **options)
            sizes.append(made.numel())
            return made

        monkeypatch.setattr(torch.Tensor, maker, make)
    narrow = [a.coalesce().index_select(1, torch.arange(500)).to_dense() for a in (a, b)]
    for name in NAMES:
        torch.testing.assert_close(compare(name, a, b), compare(name, *narrow), atol=FORMULA_LARGE, rtol=0)
    assert max(sizes) <= max(sparse_similarity._TABLE, 100 * 100)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_compare(name):
    nothing, some = torch.zeros(0, 7).to_sparse(), rows(3, 7).to_sparse()
    assert compare(name, nothing, some).shape == (0, 3)
    assert compare(name, some, nothing).shape == (3, 0)
    assert compare(name, nothing, nothing, pairwise=True).shape == (0,)
    zero = torch.zeros(3, 7).to_sparse()
    assert compare(name, zero, zero).tolist() == torch.zeros(3, 3).tolist()
    assert compare(name, zero, zero, pairwise=True).tolist() == [0, 0, 0]


def test_what_does_not_fit_is_named():
    a = rows(3).to_sparse()
    with pytest.raises(ShapeError, match="width, got 40 and 39"):
        compare("dot", a, rows(3, 39).to_sparse())
    with pytest.raises(ShapeError, match="as many on both sides, got 3 and 2"):
        compare("dot", a, rows(2).to_sparse(), pairwise=True)
    with pytest.raises(ShapeError, match=r"got torch\.float32 and torch\.float64"):
        compare_sparse("dot", a, rows(3).double())
    with pytest.raises(InputError, match=r"\[1, 3, 40\]"):
        compare("dot", rows(3)[None].to_sparse(), a)


def test_entries_in_parts():
    dense = rows(7)
    dense[3] = 0
    entries = Entries.of(dense.to_sparse())

    def made(some):
        indices = torch.stack([some.row, some.term])
        return torch.sparse_coo_tensor(indices, some.weight, (some.rows, some.width), check_invariants=False)

    assert torch.equal(made(entries.between(2, 6)).to_dense(), dense[2:6])
    order = torch.tensor([6, 3, 0, 0])
    assert torch.equal(made(entries.taken(order)).to_dense(), dense[order])
    assert is_sparse(dense.to_sparse_csr())
    assert not is_sparse(dense.numpy())
