"""What losses refuse: each error names the argument, or the columns and labels that are expected."""

import warnings

import pytest
import torch
from tests.support import named

from fourfold import losses
from fourfold.errors import FourfoldError, InputError
from fourfold.testing import tiny

MODEL = tiny()
GUIDE = tiny()
INNER = torch.nn.Identity()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("MultipleNegativesRankingLoss", {"scale": 0}, "scale"),
        ("MultipleNegativesRankingLoss", {"directions": ()}, "directions"),
        ("MultipleNegativesRankingLoss", {"directions": ("doc_to_query",)}, "query_to_doc"),
        ("MultipleNegativesRankingLoss", {"directions": ("query_to_doc", "x")}, "directions"),
        ("MultipleNegativesRankingLoss", {"partition_mode": "x"}, "partition_mode"),
        (
            "MultipleNegativesRankingLoss",
            {"partition_mode": "per_direction", "directions": ("query_to_doc", "doc_to_doc")},
            "doc_to_doc",
        ),
        ("MultipleNegativesRankingLoss", {"hardness_mode": "x"}, "hardness_mode"),
        ("MultipleNegativesRankingLoss", {"hardness_mode": "hard_negatives", "hardness_strength": -1}, "strength"),
        ("CachedMultipleNegativesRankingLoss", {"scale": -1}, "scale"),
        ("GISTEmbedLoss", {"guide": "a model", "margin_strategy": "x"}, "margin_strategy"),
        ("GISTEmbedLoss", {"guide": torch.nn.Identity()}, "guide"),
        ("DistillKLDivLoss", {"temperature": 0}, "temperature"),
        ("DistillKLDivLoss", {"teacher_temperature": float("nan")}, "teacher_temperature"),
        ("EmbedDistillLoss", {"distance_metric": "x"}, "distance_metric"),
        ("SoftmaxLoss", {"embedding_dimension": 4, "num_labels": 2, "concatenation_sent_rep": False,
                         "concatenation_sent_difference": False}, "concatenation"),
        ("GlobalOrthogonalRegularizationLoss", {"mean_weight": 0, "second_moment_weight": None}, "weight"),
        ("GlobalOrthogonalRegularizationLoss", {"aggregation": "max"}, "aggregation"),
        ("MatryoshkaLoss", {"loss": INNER, "matryoshka_dims": []}, "matryoshka_dims"),
        ("MatryoshkaLoss", {"loss": INNER, "matryoshka_dims": [0]}, "above 0"),
        ("MatryoshkaLoss", {"loss": INNER, "matryoshka_dims": [999]}, "999"),
        ("MatryoshkaLoss", {"loss": INNER, "matryoshka_dims": [8], "matryoshka_weights": [1, 2]}, "matryoshka_weights"),
        ("AdaptiveLayerLoss", {"loss": INNER, "layer_weighting": "x"}, "layer_weighting"),
    ],
    ids=named,
)  # fmt: skip
def test_arguments(name, options, said):
    with pytest.raises(InputError, match=said):
        getattr(losses, name)(MODEL, **{key: GUIDE if value == "a model" else value for key, value in options.items()})


TEXTS = [["a", "b", "the text"]] * 4
SCORES = torch.linspace(0, 1, 3)


@pytest.mark.parametrize(
    ("name", "columns", "labels", "said"),
    [
        ("MultipleNegativesRankingLoss", 1, None, "at least 2 columns"),
        ("CoSENTLoss", 3, SCORES, "2 columns"),
        ("CoSENTLoss", 2, None, "label"),
        ("CoSENTLoss", 2, SCORES[:2], "2 labels for 3 rows"),
        ("CoSENTLoss", 2, torch.ones(3, 2), "labels"),
        ("AnglELoss", 2, None, "label"),
        ("CosineSimilarityLoss", 2, SCORES[:2], "2 labels for 3 rows"),
        ("ContrastiveLoss", 3, SCORES, "2 columns"),
        ("TripletLoss", 2, None, "3 columns"),
        ("BatchAllTripletLoss", 1, SCORES[:1], "1 labels for 3 rows"),
        ("MarginMSELoss", 2, SCORES, "at least 3 columns"),
        ("MarginMSELoss", 4, torch.ones(3, 5), "2 margins or 3 scores"),
        ("DistillKLDivLoss", 3, torch.ones(3, 3), r"\(3, 2\)"),
        ("DistillKLDivLoss", 3, torch.full((3, 2), float("nan")), "NaN"),
        ("EmbedDistillLoss", 2, None, "vectors"),
        ("EmbedDistillLoss", 2, torch.ones(3, 3, 32), "2 columns"),
        ("EmbedDistillLoss", 1, torch.ones(3, 7), "projection_dim=7"),
        ("MegaBatchMarginLoss", 3, None, "2 columns"),
        ("ContrastiveTensionLoss", 1, None, "2 columns"),
    ],
    ids=named,
)
def test_columns_and_labels(name, columns, labels, said):
    loss = getattr(losses, name)(MODEL)
    with pytest.raises(FourfoldError, match=said) as caught:
        loss([MODEL.batch_features(column) for column in TEXTS[:columns]], labels)
    assert isinstance(caught.value, ValueError)


def test_labels_other_than_one_and_zero_are_told():
    loss = losses.ContrastiveLoss(MODEL)
    with pytest.warns(UserWarning, match="1 .*and 0"):
        loss([MODEL.batch_features(column) for column in TEXTS[:2]], torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("name", [f"{kind}MultipleNegativesSymmetricRankingLoss" for kind in ("", "Cached")])
def test_older_names_say_what_to_use(name):
    with pytest.warns(DeprecationWarning, match="directions=") as caught:
        getattr(losses, name)(MODEL)
    assert caught[0].filename == __file__


def test_a_scale_that_is_learned():
    loss = losses.ContrastiveTensionLossInBatchNegatives(tiny(), scale=8.0)
    assert "logit_scale" in dict(loss.named_parameters())
    assert loss.get_config_dict()["scale"] == pytest.approx(8.0)


def test_batches_of_contrastive_tension():
    texts = [f"text {i}" for i in range(100)]
    loader = losses.ContrastiveTensionDataLoader(list(texts), batch_size=8, pos_neg_ratio=4)
    batches = list(loader)
    assert len(batches) == len(loader) == 100 // (2 * 8 - 2)
    for batch in batches:
        assert [example.label for example in batch] == [1, 0, 0, 0] * 2
        assert all((example.texts[0] == example.texts[1]) == bool(example.label) for example in batch)
    used = [text for batch in batches for example in batch for text in set(example.texts)]
    assert len(used) == len(set(used))
    with pytest.raises(InputError, match="multiple"):
        losses.ContrastiveTensionDataLoader(texts, batch_size=9, pos_neg_ratio=4)


def test_projections_travel(tmp_path):
    first, second = (losses.EmbedDistillLoss(MODEL, projection_dim=12), losses.EmbedDistillLoss(MODEL))
    first.save_projection(str(tmp_path / "projection.safetensors"))
    second.load_projection(str(tmp_path / "projection.safetensors"))
    assert torch.equal(first.projection.weight, second.projection.weight)
    with pytest.raises(InputError, match="projection"):
        losses.EmbedDistillLoss(MODEL).save_projection(str(tmp_path / "none"))
    with pytest.raises(InputError, match="projection"):
        losses.EmbedDistillLoss(MODEL, projection_dim=5).load_projection(str(tmp_path / "projection.safetensors"))


def test_no_loss_warns_by_itself():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("MultipleNegativesRankingLoss", "CoSENTLoss", "MSELoss", "CosineSimilarityLoss"):
            getattr(losses, name)(MODEL)
