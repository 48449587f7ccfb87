import json
import logging

import pytest
import torch

from fourfold.errors import FolderError, InputError
from fourfold.modules import Pooling

OLD = ["cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
NEW = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


def features(left=False, **more):
    tokens = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    return {"token_embeddings": tokens, "attention_mask": mask.flip(1) if left else mask, **more}


def vector(pooling, given):
    return pooling(given)["sentence_embedding"]


@pytest.mark.parametrize("mode", NEW)
def test_one_mode(mode):
    pooling = Pooling(8, mode)
    assert pooling.pooling_mode == mode
    assert pooling.get_embedding_dimension() == pooling.pooling_output_dimension == 8
    assert vector(pooling, features()).shape == (2, 8)


def test_modes_are_concatenated_in_the_given_order():
    pooling = Pooling(8, ["max", "cls", "mean"])
    parts = [vector(Pooling(8, mode), features()) for mode in ("max", "cls", "mean")]
    assert torch.equal(vector(pooling, features()), torch.cat(parts, dim=1))
    assert pooling.get_embedding_dimension() == 24
    assert pooling.get_config_dict()["pooling_mode"] == ("max", "cls", "mean")


def test_a_list_of_one_is_that_one():
    assert Pooling(8, ["max"]).get_config_dict()["pooling_mode"] == "max"


@pytest.mark.parametrize("mode", ["avg", "Mean", "", ["mean", "meen"], []])
def test_unknown_modes_are_refused(mode):
    with pytest.raises(InputError, match="pooling_mode must"):
        Pooling(8, mode)
    if mode == ["mean", "meen"]:
        with pytest.raises(InputError, match="Did you mean 'mean'"):
            Pooling(8, mode)


def test_an_unknown_mode_in_a_folder_names_file_and_key(tmp_path):
    (tmp_path / "config.json").write_text('{"embedding_dimension": 8, "pooling_mode": "meam"}')
    with pytest.raises(FolderError, match=r"config\.json: pooling_mode must be .* got 'meam'\. Did you mean 'mean'\?"):
        Pooling.load(str(tmp_path))


@pytest.mark.parametrize(("old", "new"), list(zip(OLD, NEW, strict=True)))
def test_each_boolean_of_older_folders(tmp_path, old, new):
    config = {"word_embedding_dimension": 8, **{f"pooling_mode_{name}": name == old for name in OLD}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    pooling = Pooling.load(str(tmp_path))
    assert pooling.get_config_dict() == {"embedding_dimension": 8, "pooling_mode": new, "include_prompt": True}


def test_several_booleans_are_one_list_in_the_fixed_order(tmp_path):
    config = {"word_embedding_dimension": 8, **{f"pooling_mode_{name}": True for name in reversed(OLD)}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Pooling.load(str(tmp_path)).pooling_mode == tuple(NEW)


def test_no_boolean_true_is_the_mean(tmp_path):
    config = {"word_embedding_dimension": 8, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Pooling.load(str(tmp_path)).pooling_mode == "mean"


def test_booleans_are_ignored_beside_the_mode(tmp_path):
    config = {"embedding_dimension": 8, "pooling_mode": "max", "pooling_mode_cls_token": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Pooling.load(str(tmp_path)).pooling_mode == "max"


def test_older_arguments_warn_and_work(caplog):
    with pytest.warns(FutureWarning, match="pooling_mode="):
        assert Pooling(8, pooling_mode_max_tokens=True).pooling_mode == "max"
    with caplog.at_level(logging.WARNING):
        assert Pooling(word_embedding_dimension=8).embedding_dimension == 8
        Pooling(word_embedding_dimension=8)
    assert caplog.text.count("word_embedding_dimension") == 1


@pytest.mark.parametrize("options", [{}, {"embedding_dimension": 8, "pooling": "mean"}])
def test_wrong_arguments_are_type_errors(options):
    with pytest.raises(TypeError):
        Pooling(**options)


@pytest.mark.parametrize("length", [2, torch.tensor([2, 2]), torch.tensor(2)])
@pytest.mark.parametrize("left", [False, True])
def test_the_prompt_is_left_out(length, left):
    pooling = Pooling(8, "mean", include_prompt=False)
    given = features(left=left, prompt_length=length)
    tokens = given["token_embeddings"]
    want = [tokens[0, 2:], tokens[1, 3:] if left else tokens[1, 2:3]]
    got = vector(pooling, given)
    assert torch.allclose(got, torch.stack([part.mean(0) for part in want]))
    assert given["attention_mask"].sum() == 7  # the mask of the features is not changed


def test_the_prompt_counts_by_default():
    assert torch.equal(vector(Pooling(8), features(prompt_length=2)), vector(Pooling(8), features()))


@pytest.mark.parametrize("mask", [None, torch.ones(2, 3)])
def test_a_mask_that_does_not_fit_is_no_mask(mask):
    given = features()
    given["attention_mask"] = mask
    assert torch.allclose(vector(Pooling(8), given), given["token_embeddings"].mean(1))


def test_token_vectors_of_cls_win():
    given = features(cls_token_embeddings=torch.zeros(2, 8))
    assert vector(Pooling(8, "cls"), given).tolist() == torch.zeros(2, 8).tolist()


def test_weights_of_tokens_replace_the_divisor():
    given = features(token_weights_sum=torch.tensor([2.0, 2.0], dtype=torch.float64))
    given["token_embeddings"] = given["token_embeddings"].half()
    got = vector(Pooling(8, "mean"), given)
    assert got.dtype == torch.float64
    total = (given["token_embeddings"].float() * given["attention_mask"][..., None]).sum(1)
    assert torch.allclose(got.float(), total / 2, atol=1e-3)
