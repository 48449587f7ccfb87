"""Losses of sparse encoders, of rerankers, and of a denoising decoder, beside the older library's."""

import random
import warnings

import numpy as np
import pytest
import torch
from tests.parity.test_losses import (
    CLASSES,
    FIRST,
    FOUR,
    MARGINS,
    SCORES,
    SECOND,
    TEACHER,
    THREE,
    TWO,
    assert_same,
    case,
    plain,
    total,
)
from tests.parity.test_losses import run as run_columns
from tests.tolerances import GRADIENT

from fourfold import CrossEncoder, SentenceTransformer, SparseEncoder
from fourfold.errors import InputError
from fourfold.testing import checkpoint, tiny_folder

SPLADE = {"document_regularizer_weight": 0.3, "query_regularizer_weight": 0.5}
INNER = [
    case("SparseMultipleNegativesRankingLoss", FOUR),
    case("SparseMultipleNegativesRankingLoss", THREE, scale=0.1, directions=("query_to_doc", "doc_to_query")),
    case("SparseMarginMSELoss", FOUR, MARGINS),
    case("SparseDistillKLDivLoss", FOUR, TEACHER),
    case("SparseTripletLoss", THREE),
    case("SparseCosineSimilarityLoss", TWO, SCORES),
    case("SparseCoSENTLoss", TWO, SCORES),
    case("SparseAnglELoss", TWO, SCORES),
]
REGULARISED = [
    {"use_document_regularizer_only": True, "document_regularizer_weight": 0.4},
    {"document_regularizer_weight": 0.4},
    {**SPLADE, "document_regularizer_threshold": 20, "query_regularizer_threshold": 5},
]


@pytest.fixture(scope="module")
def sparse_libraries(st):
    from sentence_transformers.sparse_encoder import losses as theirs

    from fourfold.sparse_encoder import losses as ours

    return ours, theirs


def training(model):
    """A model in training, without the dropout that no two libraries draw alike."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.train()


@pytest.fixture(scope="module")
def sparse(st):
    folder = str(tiny_folder("sparse", "bert"))
    return training(SparseEncoder(folder, device="cpu")), training(st.SparseEncoder(folder, device="cpu"))


def compare(models, losses, columns, labels, near=GRADIENT):
    wanted = run_columns(losses[1], [models[1].preprocess(column) for column in columns], labels)
    for prepare in (models[0].batch_features, models[0].preprocess):
        assert_same(run_columns(losses[0], [prepare(column) for column in columns], labels), wanted, near)
    assert plain(losses[0].get_config_dict()) == plain(losses[1].get_config_dict())
    assert (getattr(losses[0], "citation", None) is None) == (getattr(losses[1], "citation", None) is None)


@pytest.mark.parametrize("kind", ["SpladeLoss", "CachedSpladeLoss"])
@pytest.mark.parametrize(("name", "columns", "labels", "options"), INNER)
def test_losses_within_a_splade_loss(sparse, sparse_libraries, kind, name, columns, labels, options):
    more = {"mini_batch_size": 4} if kind == "CachedSpladeLoss" else {}
    losses = [
        getattr(lib, kind)(model, getattr(lib, name)(model, **options), **SPLADE, **more)
        for lib, model in zip(sparse_libraries, sparse, strict=True)
    ]
    compare(sparse, losses, columns, labels)
    for model in sparse:
        model.similarity_fn_name = "dot"
    alone = getattr(sparse_libraries[0], name)(sparse[0], **options)
    with pytest.raises(AttributeError):
        alone([sparse[0].preprocess(column) for column in columns], labels)


@pytest.mark.parametrize("options", REGULARISED, ids=str)
def test_regularisers(sparse, sparse_libraries, options):
    losses = [
        lib.SpladeLoss(model, lib.SparseMultipleNegativesRankingLoss(model), **options)
        for lib, model in zip(sparse_libraries, sparse, strict=True)
    ]
    compare(sparse, losses, FOUR, None)
    parts = [
        loss([model.preprocess(column) for column in FOUR], None) for loss, model in zip(losses, sparse, strict=True)
    ]
    assert list(parts[0]) == list(parts[1])
    for key, part in parts[0].items():
        assert part.item() == pytest.approx(parts[1][key].item(), rel=GRADIENT)


def test_a_splade_loss_needs_a_loss_of_vectors(sparse, sparse_libraries):
    for lib, model in zip(sparse_libraries, sparse, strict=True):
        with pytest.raises(ValueError, match="compute_loss_from_embeddings"):
            lib.SpladeLoss(model, torch.nn.MSELoss(), 0.1)


def test_a_teachers_sparse_vectors(sparse, sparse_libraries):
    labels = torch.rand(len(FIRST), sparse[0].get_embedding_dimension(), generator=torch.Generator().manual_seed(0))
    losses = [lib.SparseMSELoss(model) for lib, model in zip(sparse_libraries, sparse, strict=True)]
    compare(sparse, losses, [FIRST], labels)


@pytest.mark.parametrize("options", [{}, {"beta": 0.7, "gamma": 0.3}])
def test_csr(st, sparse_libraries, options):
    folder = str(tiny_folder("sparse", "qwen3"))
    models = training(SparseEncoder(folder, device="cpu")), training(st.SparseEncoder(folder, device="cpu"))
    losses = [lib.CSRLoss(model, **options) for lib, model in zip(sparse_libraries, models, strict=True)]
    compare(models, losses, FOUR, None, near=10 * GRADIENT)


# -- rerankers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cross_libraries(st):
    from sentence_transformers.cross_encoder import losses as theirs

    from fourfold.cross_encoder import losses as ours

    return ours, theirs


@pytest.fixture(scope="module", params=["bert", "mpnet", "qwen3"])
def rerankers(request, st, tmp_path_factory):
    made = {}
    for labels in (1, 3):
        folder = tmp_path_factory.mktemp("reranker")
        folder = str(checkpoint(request.param, folder, head="labels", num_labels=labels))
        made[labels] = [cls(folder, device="cpu").eval() for cls in (CrossEncoder, st.CrossEncoder)]
    return made


def run_pairs(loss, columns, labels):
    loss.zero_grad(set_to_none=True)
    value = total(loss(columns, labels))
    value.backward()
    return value.item(), {name: p.grad.clone() for name, p in loss.named_parameters() if p.grad is not None}


RERANKING = [
    case("BinaryCrossEntropyLoss", TWO, SCORES),
    case("BinaryCrossEntropyLoss", TWO, CLASSES.clamp(max=1), pos_weight=torch.tensor(3.0)),
    case("BinaryCrossEntropyLoss", TWO, SCORES, activation_fn=torch.nn.Tanh()),
    case("CrossEntropyLoss", TWO, CLASSES),
    case("CrossEntropyLoss", TWO, CLASSES[:, None]),
    case("CrossEntropyLoss", TWO, TEACHER.softmax(1)),
    case("CrossEntropyLoss", TWO, CLASSES, label_smoothing=0.2),
    case("MultipleNegativesRankingLoss", TWO, num_negatives=None),
    case("MultipleNegativesRankingLoss", FOUR, num_negatives=None, scale=2.0, activation_fn=torch.nn.Identity()),
    case("MultipleNegativesRankingLoss", THREE, num_negatives=3),
]


@pytest.mark.parametrize(("name", "columns", "labels", "options"), RERANKING)
def test_losses_of_rerankers(rerankers, cross_libraries, name, columns, labels, options):
    models = rerankers[3 if name == "CrossEntropyLoss" else 1]
    results = []
    for lib, model in zip(cross_libraries, models, strict=True):
        loss = getattr(lib, name)(model, **options)
        torch.manual_seed(3)  # for the negatives that are drawn
        results.append((loss, run_pairs(loss, columns, labels)))
    # In-batch negatives add up the gradients of dozens of pairs.
    assert_same(results[0][1], results[1][1], near=10 * GRADIENT if name.startswith("Multiple") else GRADIENT)
    if hasattr(results[1][0], "get_config_dict"):
        assert plain(results[0][0].get_config_dict()) == plain(results[1][0].get_config_dict())


@pytest.mark.parametrize(
    ("name", "columns", "labels"),
    [
        ("BinaryCrossEntropyLoss", THREE, SCORES),
        ("BinaryCrossEntropyLoss", TWO, SCORES[:2]),
        ("CrossEntropyLoss", [FIRST], CLASSES),
    ],
)
def test_columns_and_labels_that_do_not_fit(rerankers, cross_libraries, name, columns, labels):
    for lib, model in zip(cross_libraries, rerankers[1], strict=True):
        with pytest.raises(ValueError):
            getattr(lib, name)(model)(columns, labels)


def test_models_that_do_not_fit(rerankers, cross_libraries):
    ours = cross_libraries[0]
    with pytest.raises(InputError, match="one label"):
        ours.BinaryCrossEntropyLoss(rerankers[3][0])
    with pytest.raises(InputError, match="CrossEncoder"):
        ours.CrossEntropyLoss(SentenceTransformer(str(tiny_folder()), device="cpu"))


# -- a decoder ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_denoising(st, tied):
    from sentence_transformers.sentence_transformer import losses as theirs

    from fourfold import losses as ours

    folder = str(tiny_folder("dense", "bert"))
    options = {"tie_encoder_decoder": tied, **({} if tied else {"decoder_name_or_path": folder})}
    made = []
    for lib, cls in ((ours, SentenceTransformer), (theirs, st.SentenceTransformer)):
        model = cls(folder, device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            random.seed(0)
            torch.manual_seed(0)
            loss = lib.DenoisingAutoEncoderLoss(model, **options).eval()
        made.append((model, loss))
    (model, loss), (other, reference) = made
    loss.decoder.load_state_dict(reference.decoder.state_dict())  # its new parts are drawn at random
    if tied:
        shared = dict(loss.encoder.named_parameters())
        same = [p for p in loss.decoder.parameters() if any(p is q for q in shared.values())]
        assert len(same) > 10
    wanted = run_columns(reference, [other.preprocess(column) for column in (FIRST, SECOND)], None)
    for prepare in (model.batch_features, model.preprocess):
        got = run_columns(loss, [prepare(column) for column in (FIRST, SECOND)], None)
        assert_same(got, wanted)
    assert set(loss.get_config_dict()) == set(reference.get_config_dict())
    np.testing.assert_equal(loss.need_retokenization, reference.need_retokenization)
