"""Every loss on vectors beside the older library's: the same number and the same gradients, packed and padded."""

import copy
import itertools
import warnings

import numpy as np
import pytest
import torch
from tests.support import named
from tests.tolerances import GRADIENT

from fourfold import SentenceTransformer
from fourfold.testing import WIDTH, tiny_folder

FIRST = ["the query", "a long text of the world " * 6, "short", "another query of the text", "x y z", "the world"]
SECOND = ["a document", "the world", "the long text " * 9, "a b c d", "the query", "a text about harbours"]
THIRD = ["of the", "no", "the text, " * 5, "a negative document", "a world", "words"]
FOURTH = ["more", "the long negative " * 4, "n", "a", "the", "quick brown"]
ROWS = len(FIRST)
GENERATOR = torch.Generator().manual_seed(0)
SCORES = torch.rand(ROWS, generator=GENERATOR)
BINARY = torch.tensor([1, 0, 1, 1, 0, 0])
CLASSES = torch.tensor([0, 1, 0, 1, 2, 1])
TWO = [FIRST, SECOND]
THREE = [FIRST, SECOND, THIRD]
FOUR = [FIRST, SECOND, THIRD, FOURTH]
VECTORS = torch.randn(ROWS, WIDTH, generator=GENERATOR)
MARGINS = torch.randn(ROWS, 2, generator=GENERATOR)
TEACHER = torch.randn(ROWS, 3, generator=GENERATOR)


def case(name, columns, labels=None, **options):
    kind = "" if labels is None else f" {labels.dtype}{list(labels.shape)}"
    return pytest.param(name, columns, labels, options, id=f"{name} {len(columns)}{kind} {named(options)}")


def metric(lib, name):
    owner, member = name.split(".")
    return getattr(getattr(lib, owner), member)


ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
HARDNESS = ("in_batch_negatives", "hard_negatives", "all_negatives")
CASES = [
    case("MultipleNegativesRankingLoss", TWO),
    case("MultipleNegativesRankingLoss", FOUR, scale=7.0),
    case("MultipleNegativesRankingLoss", FOUR, directions=ALL),
    case("MultipleNegativesRankingLoss", THREE, directions=ALL[:3:2], partition_mode="per_direction"),
    *(case("MultipleNegativesRankingLoss", FOUR, hardness_mode=mode, hardness_strength=4.0) for mode in HARDNESS),
    case("MultipleNegativesRankingLoss", THREE, directions=ALL, hardness_mode=HARDNESS[2], hardness_strength=2.0),
    case("CachedMultipleNegativesRankingLoss", TWO, mini_batch_size=4),
    case("CachedMultipleNegativesRankingLoss", FOUR, mini_batch_size=2, directions=ALL),
    case("CachedMultipleNegativesRankingLoss", THREE, mini_batch_num_tokens=40),
    case("CachedMultipleNegativesRankingLoss", FOUR, mini_batch_size=5, hardness_mode=HARDNESS[1], hardness_strength=3),
    case("MultipleNegativesSymmetricRankingLoss", THREE),
    case("CachedMultipleNegativesSymmetricRankingLoss", THREE, mini_batch_size=4),
    case("CoSENTLoss", TWO, SCORES),
    case("CoSENTLoss", TWO, BINARY, scale=3.0),
    case("CoSENTLoss", TWO, BINARY.bool()),
    case("AnglELoss", TWO, SCORES),
    case("AnglELoss", FOUR),
    case("AnglELoss", THREE, SCORES),
    case("CosineSimilarityLoss", TWO, SCORES),
    case("CosineSimilarityLoss", TWO, SCORES, cos_score_transformation=torch.nn.Sigmoid(), loss_fct=torch.nn.L1Loss()),
    *(
        case(name, TWO, BINARY, distance_metric=f"SiameseDistanceMetric.{kind}", margin=0.9)
        for name in ("ContrastiveLoss", "OnlineContrastiveLoss")
        for kind in ("EUCLIDEAN", "MANHATTAN", "COSINE_DISTANCE")
    ),
    case("ContrastiveLoss", TWO, BINARY, size_average=False),
    case("OnlineContrastiveLoss", TWO, torch.ones(ROWS).long()),
    case("OnlineContrastiveLoss", TWO, torch.zeros(ROWS).long()),
    *(
        case("TripletLoss", THREE, distance_metric=f"TripletDistanceMetric.{kind}", triplet_margin=margin)
        for kind, margin in (("EUCLIDEAN", 5), ("MANHATTAN", 9), ("COSINE", 0.2))
    ),
    *(
        case(f"Batch{kind}TripletLoss", [FIRST], CLASSES, **options)
        for kind in ("All", "Hard", "SemiHard", "HardSoftMargin")
        for options in (
            {}, {"distance_metric": "BatchHardTripletLossDistanceFunction.cosine_distance"}
        )
    ),
    case("BatchAllTripletLoss", [FIRST], CLASSES, margin=0.3),
    case("BatchSemiHardTripletLoss", [FIRST], torch.zeros(ROWS).long()),
    case("BatchHardTripletLoss", [FIRST], torch.arange(ROWS)),
    case("MarginMSELoss", THREE, MARGINS[:, 0]),
    case("MarginMSELoss", FOUR, MARGINS),
    case("MarginMSELoss", FOUR, TEACHER),
    case("DistillKLDivLoss", FOUR, TEACHER),
    case("DistillKLDivLoss", FOUR, TEACHER, temperature=2.0, teacher_temperature=0.7),
    *(case("EmbedDistillLoss", TWO, VECTORS, distance_metric=kind) for kind in ("cosine", "l2", "mse")),
    case("EmbedDistillLoss", TWO, torch.stack([VECTORS, VECTORS.flip(0)], 1)),
    case("EmbedDistillLoss", TWO, VECTORS[:, :12], projection_dim=12),
    case("MSELoss", [FIRST], VECTORS),
    case("MegaBatchMarginLoss", TWO, mini_batch_size=4),
    case("MegaBatchMarginLoss", TWO, use_mini_batched_version=False, positive_margin=0.99, negative_margin=0.1),
    case("SoftmaxLoss", TWO, CLASSES, embedding_dimension=WIDTH, num_labels=3),
    case("SoftmaxLoss", TWO, CLASSES, embedding_dimension=WIDTH, num_labels=3, concatenation_sent_multiplication=True),
    case("SoftmaxLoss", TWO, TEACHER.softmax(1), embedding_dimension=WIDTH, num_labels=3),
    case("GlobalOrthogonalRegularizationLoss", THREE),
    case("GlobalOrthogonalRegularizationLoss", TWO, aggregation="sum", mean_weight=None, second_moment_weight=3.0),
    case("ContrastiveTensionLoss", TWO, BINARY),
    case("ContrastiveTensionLoss", [FIRST, [*SECOND[:3], *FIRST[3:]]]),
    case("ContrastiveTensionLossInBatchNegatives", [FIRST]),
]  # fmt: skip
# Texts that are in two rows would tie at the guide's limit, where rounding decides.
APART = [
    [f"{text} {place} {row}" for row, text in enumerate(column)] for place, column in zip("abcd", FOUR, strict=True)
]
GUIDED = [
    case("GISTEmbedLoss", APART[:2]),
    case("GISTEmbedLoss", APART[:3], margin=0.1, temperature=0.2),
    case("GISTEmbedLoss", APART[:3], margin=0.1, margin_strategy="relative", contrast_anchors=False, temperature=0.2),
    case("CachedGISTEmbedLoss", APART[:2], mini_batch_size=4, contrast_positives=False, temperature=0.2),
    case("CachedGISTEmbedLoss", APART, mini_batch_size=2, temperature=0.1),
]
# Modifiers of other losses.
MODIFIED = [
    case("MatryoshkaLoss", FOUR, inner="MultipleNegativesRankingLoss", matryoshka_dims=[8, WIDTH, 16]),
    case("MatryoshkaLoss", TWO, SCORES, inner="CoSENTLoss", matryoshka_dims=[WIDTH, 4], matryoshka_weights=[1, 0.5]),
    case("MatryoshkaLoss", [FIRST], VECTORS, inner="MSELoss", matryoshka_dims=[WIDTH, 4]),
    case("MatryoshkaLoss", THREE, inner="CachedMultipleNegativesRankingLoss", matryoshka_dims=[WIDTH, 4]),
    case("AdaptiveLayerLoss", THREE, inner="MultipleNegativesRankingLoss", n_layers_per_step=-1),
    case("AdaptiveLayerLoss", TWO, SCORES, inner="CoSENTLoss", n_layers_per_step=-1, layer_weighting="log",
         kl_temperature=0.9, last_layer_weight=2.0, prior_layers_weight=0.5),
    case("Matryoshka2dLoss", THREE, inner="MultipleNegativesRankingLoss", n_layers_per_step=-1, n_dims_per_step=-1,
         matryoshka_dims=[WIDTH, 4], layer_weighting="linear"),
]  # fmt: skip


@pytest.fixture(scope="module", params=["bert", "mpnet", "modernbert"])
def models(request, st):
    folder = str(tiny_folder("dense", request.param))
    return SentenceTransformer(folder, device="cpu").eval(), st.SentenceTransformer(folder, device="cpu").eval()


@pytest.fixture(scope="module")
def libraries(st):
    from sentence_transformers.sentence_transformer import losses as theirs

    from fourfold import losses as ours

    return ours, theirs


def build(lib, name, model, options):
    options = {key: metric(lib, value) if key == "distance_metric" and "." in str(value) else value
               for key, value in options.items()}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.manual_seed(0)
        return getattr(lib, name)(model, **options).eval()


def total(loss):
    return torch.stack(list(loss.values())).sum() if isinstance(loss, dict) else loss


def run(loss, features, labels):
    """The value of a loss, and its gradients by the name of a parameter."""
    loss.zero_grad(set_to_none=True)
    value = total(loss([dict(column) for column in features], labels))
    value.backward()
    found = {name: p.grad.clone() for name, p in loss.named_parameters(remove_duplicate=False) if p.grad is not None}
    return value.item(), found


def assert_same(got, wanted, near=GRADIENT):
    assert got[0] == pytest.approx(wanted[0], rel=near, abs=near)
    scale = max(1e-3, max(float(grad.abs().max()) for grad in wanted[1].values()))
    absent = {name for name in wanted[1] if name not in got[1] and wanted[1][name].abs().max() > near * scale}
    assert not absent
    for name, grad in got[1].items():
        other = wanted[1].get(name, torch.zeros_like(grad))
        np.testing.assert_allclose(grad.numpy(), other.numpy(), rtol=0, atol=near * scale, err_msg=name)


def compare(models, losses, columns, labels, near=GRADIENT):
    ours, theirs = losses
    wanted = run(theirs, [models[1].preprocess(column) for column in columns], labels)
    for prepare in (models[0].batch_features, models[0].preprocess):
        assert_same(run(ours, [prepare(column) for column in columns], labels), wanted, near)
    if hasattr(theirs, "get_config_dict"):
        assert plain(ours.get_config_dict()) == plain(theirs.get_config_dict())


def plain(config):
    """Settings with the names of the modules among them."""
    return {key: type(value).__name__ if isinstance(value, torch.nn.Module) else value for key, value in config.items()}


@pytest.mark.parametrize(("name", "columns", "labels", "options"), CASES)
def test_value_and_gradients(models, libraries, name, columns, labels, options):
    losses = [build(lib, name, model, options) for lib, model in zip(libraries, models, strict=True)]
    if "projection_dim" in options:
        losses[0].projection.load_state_dict(losses[1].projection.state_dict())
    compare(models, losses, columns, labels)


@pytest.mark.parametrize(("name", "columns", "labels", "options"), GUIDED)
@pytest.mark.parametrize("guide", ["same", "other tokenizer"])
def test_guided(st, models, libraries, name, columns, labels, options, guide):
    folder = str(tiny_folder("dense", "roberta" if guide == "other tokenizer" else "bert"))
    guides = SentenceTransformer(folder, device="cpu").eval(), st.SentenceTransformer(folder, device="cpu").eval()
    losses = [
        build(lib, name, model, {"guide": one, **options})
        for lib, model, one in zip(libraries, models, guides, strict=True)
    ]
    assert losses[0].must_retokenize == losses[1].must_retokenize
    # Cosines divided by 0.01 are a hundred times as far off as cosines.
    compare(models, losses, columns, labels, near=GRADIENT if "temperature" in options else 100 * GRADIENT)


@pytest.mark.parametrize(("name", "columns", "labels", "options"), MODIFIED)
def test_modifiers(models, libraries, name, columns, labels, options):
    options = copy.copy(options)
    inner = options.pop("inner")
    losses = [
        build(lib, name, model, {"loss": build(lib, inner, model, {}), **options})
        for lib, model in zip(libraries, models, strict=True)
    ]
    compare(models, losses, columns, labels)
    assert "forward" not in vars(models[0])
    assert "forward" not in vars(models[0][0])


def test_citations_name_the_same_papers(models, libraries):
    ours, theirs = libraries
    for name in sorted({entry.values[0] for entry in itertools.chain(CASES, MODIFIED)}):
        got, wanted = (getattr(getattr(lib, name), "citation", None) for lib in (ours, theirs))
        assert (got is None) == (wanted is None), name
