"""The sparse class beside the older library's, on the same tiny folders."""

import inspect
import json
import warnings

import numpy as np
import pytest
import torch
from tests.support import TEXTS, named, outcome
from tests.tolerances import PACKED

from fourfold import SparseEncoder
from fourfold.testing import checkpoint, tiny, tiny_folder

MODELS = ("bert", "distilbert", "roberta", "modernbert", "mpnet", "qwen3", "static")


@pytest.fixture(scope="module", params=MODELS)
def pair(st, request):
    folder = str(tiny_folder("sparse", request.param))
    return tuple(cls(folder, device="cpu") for cls in (SparseEncoder, st.SparseEncoder))


@pytest.fixture(scope="module")
def bert(st):
    folder = str(tiny_folder("sparse", "bert"))
    return tuple(cls(folder, device="cpu") for cls in (SparseEncoder, st.SparseEncoder))


def dense(value):
    if isinstance(value, list):
        return [dense(row) for row in value]
    return (value if value.layout == torch.strided else value.to_dense()).cpu().float().numpy()


# -- encode ------------------------------------------------------------------------------------------------------------

FLAGS = [
    {},
    {"convert_to_sparse_tensor": False},
    {"convert_to_tensor": False},
    {"convert_to_tensor": False, "convert_to_sparse_tensor": False},
    {"max_active_dims": 3},
    {"max_active_dims": 3, "convert_to_sparse_tensor": False},
    {"max_active_dims": 100_000},
    {"save_to_cpu": True, "batch_size": 2},
    {"prompt": "query: "},
]


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("inputs", [TEXTS, TEXTS[0], [TEXTS[3]]], ids=["many", "single", "one"])
def test_encode_gives_the_same_rows(pair, inputs, flags):
    ours, theirs = (outcome(model.encode, inputs, **flags) for model in pair)
    if isinstance(theirs, type):  # more units than the auto-encoder has
        assert issubclass(ours, theirs)
        return
    assert type(ours) is type(theirs)
    first, second = ([value] if isinstance(value, torch.Tensor) else value for value in (ours, theirs))
    for one, other in zip(first, second, strict=True):
        assert (one.layout, one.shape, one.dtype) == (other.layout, other.shape, other.dtype)
        assert not one.is_inference()
        np.testing.assert_allclose(dense(one), dense(other), atol=PACKED)


@pytest.mark.parametrize("flags", FLAGS[:4], ids=str)
@pytest.mark.parametrize("inputs", [[], ()], ids=["list", "tuple"])
def test_no_inputs(bert, inputs, flags):
    ours, theirs = (model.encode(inputs, **flags) for model in bert)
    assert type(ours) is type(theirs)
    if isinstance(ours, torch.Tensor):
        assert (ours.layout, ours.shape, ours.dtype) == (theirs.layout, theirs.shape, theirs.dtype)


@pytest.mark.parametrize("method", ["encode_query", "encode_document"])
def test_queries_and_documents(st, method):
    folder, prompts = str(tiny_folder("sparse", "bert")), {"query": "query: ", "document": "text: "}
    ours, theirs = (cls(folder, device="cpu", prompts=prompts) for cls in (SparseEncoder, st.SparseEncoder))
    np.testing.assert_allclose(dense(getattr(ours, method)(TEXTS)), dense(getattr(theirs, method)(TEXTS)), atol=PACKED)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_active_dims": 0}, {"max_active_dims": -1}, {"batch_size": 0}, {"precision": "int8"}, {"truncate_dim": 3},
        {"normalize_embeddings": True}, {"output_value": None}, {"convert_to_numpy": True}, {"prompt_name": "none"},
        {"nothing": 1},
    ],
    ids=str,
)  # fmt: skip
def test_unusable_arguments_raise_the_same_errors(bert, arguments):
    ours, theirs = (outcome(model.encode, ["a"], **arguments) for model in bert)
    assert ours is theirs is ValueError


@pytest.mark.parametrize("inputs", [None, {"a", "b"}, 3, [None], [{"text": 1}]], ids=named)
def test_unusable_inputs_raise_errors_in_both(bert, inputs):
    ours, theirs = (outcome(model.encode, inputs) for model in bert)
    assert isinstance(ours, type)
    assert isinstance(theirs, type)


# -- construction ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [True, 0, -1, 1.5, "3"], ids=str)
def test_bounds_that_are_none(st, given):
    folder = str(tiny_folder("sparse", "bert"))
    for cls in (SparseEncoder, st.SparseEncoder):
        with pytest.raises(ValueError, match="max_active_dims"):
            cls(folder, device="cpu", max_active_dims=given)


def test_the_bound_is_saved_and_is_the_auto_encoders_own(st, tmp_path):
    model = tiny("sparse", "bert", max_active_dims=5)
    model.save(str(tmp_path / "ours"))
    for cls in (SparseEncoder, st.SparseEncoder):
        assert cls(str(tmp_path / "ours"), device="cpu").max_active_dims == 5
        assert cls(str(tiny_folder("sparse", "qwen3")), device="cpu").max_active_dims == 8
        assert cls(str(tiny_folder("sparse", "bert")), device="cpu").max_active_dims is None


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "modernbert"])
def test_a_masked_language_model_becomes_splade(st, tmp_path, architecture):
    folder = str(checkpoint(architecture, tmp_path, head="masked"))
    ours, theirs = (cls(folder, device="cpu") for cls in (SparseEncoder, st.SparseEncoder))
    assert [type(module).__name__ for module in ours] == [type(module).__name__ for module in theirs]
    np.testing.assert_allclose(dense(ours.encode(TEXTS)), dense(theirs.encode(TEXTS)), atol=PACKED)


def test_another_checkpoint_gets_an_auto_encoder(st, tmp_path):
    folder = str(checkpoint("bert", tmp_path))
    ours, theirs = (cls(folder, device="cpu") for cls in (SparseEncoder, st.SparseEncoder))
    assert [type(module).__name__ for module in ours] == [type(module).__name__ for module in theirs]
    assert ours[2].get_config_dict() == theirs[2].get_config_dict()


def test_a_dense_folder_gets_an_auto_encoder(st, tmp_path):
    tiny("dense", "bert", prompts={"query": "q: "}).save(str(tmp_path / "dense"))
    ours, theirs = (cls(str(tmp_path / "dense"), device="cpu") for cls in (SparseEncoder, st.SparseEncoder))
    assert [type(module).__name__ for module in ours] == [type(module).__name__ for module in theirs]
    assert ours[3].get_config_dict() == theirs[3].get_config_dict()
    assert ours.similarity_fn_name == theirs.similarity_fn_name
    assert ours.prompts == theirs.prompts
    theirs[3].load_state_dict(ours[3].state_dict(), strict=False)
    theirs[3].encoder.weight.data.copy_(ours[3].encoder.weight.data)
    np.testing.assert_allclose(dense(ours.encode(TEXTS)), dense(theirs.encode(TEXTS)), atol=PACKED)


def folder_of(kind, family, folder):
    """Save a tiny model of one kind as if another family had saved it."""
    made = {
        "splade": lambda: tiny("sparse", prompts={"query": "q: "}, similarity_fn_name="cosine"),
        "dense": lambda: tiny("dense", prompts={"query": "q: "}, similarity_fn_name="cosine"),
        "table": lambda: tiny("sparse", "static"),
        "csr": lambda: tiny("sparse", "qwen3"),
    }[kind]()
    made.save(str(folder))
    file = folder / "config_sentence_transformers.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "model_type": family}))
    return str(folder)


@pytest.mark.parametrize("family", ["SparseEncoder", "SentenceTransformer", "CrossEncoder", "MultiVectorEncoder"])
@pytest.mark.parametrize("kind", ["splade", "dense", "table", "csr"])
@pytest.mark.parametrize("to", ["SparseEncoder", "SentenceTransformer"])
def test_folders_of_every_family_become_the_same_modules(st, tmp_path, caplog, family, kind, to):
    import fourfold

    folder = folder_of(kind, family, tmp_path / "folder")
    found = []
    for library, cls in (("fourfold", getattr(fourfold, to)), ("sentence_transformers", getattr(st, to))):
        caplog.clear()
        model = outcome(cls, folder, device="cpu")
        told = any(r.name.startswith(library) and "onverting" in r.getMessage() for r in caplog.records)
        if isinstance(model, type):
            found.append(model)
            continue
        settings = [
            {key: value for key, value in module.get_config_dict().items() if key != "embedding_dimension"}
            for module in model
        ]
        names = [type(module).__name__ for module in model]
        rest = (model.prompts, model.similarity_fn_name, getattr(model, "max_active_dims", None), told)
        found.append((names, settings, *rest, model._model_card_text is None))
    assert found[0] == found[1]
    assert isinstance(found[0], tuple) or found[0] is ValueError


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("safe", [True, False])
def test_both_ways(st, tmp_path, architecture, safe):
    ours = tiny("sparse", architecture, similarity_fn_name="cosine")
    wanted = dense(ours.encode(TEXTS))
    ours.save(str(tmp_path / "ours"), safe_serialization=safe)
    theirs = st.SparseEncoder(str(tmp_path / "ours"), device="cpu")
    np.testing.assert_allclose(dense(theirs.encode(TEXTS)), wanted, atol=PACKED)
    theirs.save(str(tmp_path / "theirs"), safe_serialization=safe)
    again = SparseEncoder(str(tmp_path / "theirs"), device="cpu")
    np.testing.assert_allclose(dense(again.encode(TEXTS)), wanted, atol=PACKED)
    for file in ("modules.json", "config_sentence_transformers.json"):
        first, second = ((tmp_path / side / file).read_text() for side in ("ours", "theirs"))
        assert first == second
    names = [
        {path.relative_to(tmp_path / side) for path in (tmp_path / side).rglob("*")} for side in ("ours", "theirs")
    ]
    assert names[0] == names[1]


# -- looking inside ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [None, 1, 4, 10_000])
@pytest.mark.parametrize("sparse", [True, False])
def test_decode(bert, top_k, sparse):
    model, theirs = bert
    rows = model.encode([*TEXTS, "a"], convert_to_sparse_tensor=sparse, max_active_dims=20)
    for given in (rows, rows[0]):
        ours, wanted = model.decode(given, top_k), theirs.decode(given, top_k)
        one, other = ([value] if given.ndim == 1 else value for value in (ours, wanted))
        for first, second in zip(one, other, strict=True):
            assert sorted(first) == sorted(second) or top_k is not None
            assert [weight for _, weight in first] == pytest.approx([weight for _, weight in second])


def test_decode_of_nothing(bert):
    rows = torch.zeros(2, 105).to_sparse()
    ours, theirs = (model.decode(rows) for model in bert)
    assert ours == theirs == [[], []]


@pytest.mark.parametrize(
    "rows",
    [
        torch.tensor([[1.0, 0, 2, 0], [0, 0, 0, 3]]), torch.tensor([1.0, 0, 0]), torch.zeros(0, 4), torch.zeros(3, 0),
        torch.zeros(3, 5),
    ],
    ids=["two", "one", "no rows", "no columns", "zeros"],
)  # fmt: skip
@pytest.mark.parametrize("sparse", [True, False])
def test_sparsity(st, rows, sparse):
    rows = rows.to_sparse() if sparse else rows
    assert SparseEncoder.sparsity(rows) == pytest.approx(st.SparseEncoder.sparsity(rows))


@pytest.mark.parametrize("first_sparse", [True, False])
@pytest.mark.parametrize("second_sparse", [True, False])
@pytest.mark.parametrize("several", [True, False])
def test_intersection(st, first_sparse, second_sparse, several):
    first = torch.tensor([1.0, 0, 2, -1, 3])
    second = torch.tensor([[2.0, 1, 0, -2, 1], [0, 0, 0, 0, 0], [-1, 0, 4, 1, 0]])
    second = second if several else second[0]
    given = (first.to_sparse() if first_sparse else first, second.to_sparse() if second_sparse else second)
    ours, theirs = (cls.intersection(*given) for cls in (SparseEncoder, st.SparseEncoder))
    assert (ours.layout, ours.shape) == (theirs.layout, theirs.shape)
    assert torch.equal(ours.to_dense(), theirs.to_dense())


def test_what_cannot_be_looked_into_raises_the_same_errors(st, bert):
    row, rows = torch.zeros(4), torch.zeros(2, 4)
    for name, arguments in [
        ("decode", ([1.0],)), ("decode", (rows[None],)), ("decode", (row, 0)), ("decode", (row, -1)),
        ("sparsity", ([1.0],)), ("sparsity", (rows[None],)), ("intersection", (rows, row)),
        ("intersection", (row, rows[:, :3])),
    ]:  # fmt: skip
        ours, theirs = (outcome(getattr(model, name), *arguments) for model in bert)
        assert ours is theirs, name
        assert isinstance(ours, type)


def test_chunk_size_is_the_poolings(bert):
    for model in bert:
        assert model.splade_pooling_chunk_size is None
        model.splade_pooling_chunk_size = 2
        assert model[1].chunk_size == 2
        model.splade_pooling_chunk_size = None


@pytest.mark.parametrize("name", ["dot", "cosine", "euclidean", "manhattan"])
def test_similarity(st, name):
    folder = str(tiny_folder("sparse", "bert"))
    ours, theirs = (cls(folder, device="cpu", similarity_fn_name=name) for cls in (SparseEncoder, st.SparseEncoder))
    rows = ours.encode(TEXTS)
    # The distance of a row to itself is 0 here; there it is the root of what rounding leaves.
    tolerance = 1e-2 if name == "euclidean" else 1e-4
    for given in ((rows, rows), (rows.to_dense(), rows), (rows[0], rows)):
        np.testing.assert_allclose(ours.similarity(*given), theirs.similarity(*given), rtol=1e-4, atol=tolerance)
    given = (rows, rows.index_select(0, torch.arange(len(TEXTS)).flip(0)))
    np.testing.assert_allclose(ours.similarity_pairwise(*given), theirs.similarity_pairwise(*given), atol=1e-4)


def test_the_usual_similarity_is_dot(bert):
    for model in bert:
        assert model._get_model_config()["similarity_fn_name"] in (None, "dot")
        assert model.similarity_fn_name == "dot"
        with pytest.raises(ValueError, match="nothing"):
            model.similarity_fn_name = "nothing"


# -- members -----------------------------------------------------------------------------------------------------------


def test_every_public_member_is_there(st):
    public = {name for name in dir(st.SparseEncoder) if not name.startswith("_")} - set(dir(torch.nn.Sequential))
    assert public - set(dir(SparseEncoder)) == set()
    for name in ("encode_multi_process", "truncate_embeddings", "fit", "rank", "predict"):
        assert not hasattr(SparseEncoder, name)


@pytest.mark.parametrize(
    "name",
    ["encode", "encode_query", "encode_document", "decode", "sparsity", "intersection", "similarity",
     "get_model_kwargs", "similarity_pairwise", "get_embedding_dimension", "set_pooling_include_prompt", "save"],
)  # fmt: skip
def test_methods_take_the_same_arguments(st, name):
    def arguments(cls):
        parameters = inspect.signature(getattr(cls, name)).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters if p.name != "dtype"]

    assert arguments(SparseEncoder) == arguments(st.SparseEncoder)


def test_the_constructor_takes_the_same_arguments(st):
    ours, theirs = (inspect.signature(cls).parameters for cls in (SparseEncoder, st.SparseEncoder))
    assert ours.keys() - theirs.keys() == {"dtype"}
    assert theirs.keys() - ours.keys() == set()
    assert all(ours[name].kind is theirs[name].kind for name in theirs)


def test_older_names(bert):
    for model in bert:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            assert model.get_sentence_embedding_dimension() == model.get_embedding_dimension()
        assert any(issubclass(warning.category, FutureWarning) for warning in seen)
        np.testing.assert_allclose(dense(model.encode(sentences=["a"])), dense(model.encode(["a"])), atol=1e-6)
