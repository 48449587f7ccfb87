import pytest
import torch

from fourfold.modules import Normalize


def test_vectors_get_length_one_and_zero_stays_zero():
    given = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]])
    got = Normalize()({"sentence_embedding": given})["sentence_embedding"]
    assert got.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0], [pytest.approx(1e-8), 0]]


def test_names_choose_the_feature():
    features = {"token_embeddings": torch.full((1, 2, 4), 2.0)}
    Normalize("token_embeddings", "unit")(features)
    assert features["unit"].tolist() == [[[0.5] * 4] * 2]
    assert features["token_embeddings"].max() == 2


def test_a_missing_feature_is_no_error():
    assert Normalize()({"other": 1}) == {"other": 1}


def test_large_half_precision_numbers_do_not_overflow():
    got = Normalize()({"sentence_embedding": torch.full((1, 4), 60000.0, dtype=torch.float16)})["sentence_embedding"]
    assert got.dtype == torch.float16
    assert got.tolist() == [[0.5] * 4]


def test_a_folder_without_a_file_gives_the_defaults(tmp_path):
    for loaded in (Normalize.load(str(tmp_path)), Normalize.load()):
        assert loaded.get_config_dict() == Normalize().get_config_dict()
