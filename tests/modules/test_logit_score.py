import pytest
import torch

from fourfold.errors import InputError, MissingFeatureError, ShapeError
from fourfold.modules import LogitScore

LOGITS = torch.tensor([[[1.0, 2, 3], [5, 7, 11]], [[0, 0, 0], [2, 3, 4]]])


def test_the_last_position_counts():
    scores = LogitScore(2, 0)({"causal_logits": LOGITS})["scores"]
    assert torch.equal(scores, torch.tensor([[6.0], [2.0]]))
    assert torch.equal(LogitScore(1)({"causal_logits": LOGITS})["scores"], torch.tensor([[7.0], [3.0]]))


def test_packed_texts_have_one_position_each():
    features = {"causal_logits": LOGITS[:, -1][None], "cu_seq_lens_q": torch.tensor([0, 4, 9])}
    assert torch.equal(LogitScore(2, 0)(features)["scores"], torch.tensor([[6.0], [2.0]]))


def test_another_feature_may_be_read():
    assert LogitScore(0, module_input_name="other")({"other": LOGITS})["scores"].shape == (2, 1)
    with pytest.raises(MissingFeatureError, match="causal_logits"):
        LogitScore(0)({"other": LOGITS})


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((None,), "true_token_id"), ((-1,), "true_token_id"), ((True,), "true_token_id"), ((1, "no"), "false_token_id")],
    ids=str,
)
def test_what_is_no_token(arguments, name):
    with pytest.raises(InputError, match=name):
        LogitScore(*arguments)


def test_a_token_that_the_logits_lack_is_told():
    with pytest.raises(ShapeError, match="token 3, the logits are those of 3 tokens"):
        LogitScore(3)({"causal_logits": LOGITS})


def test_what_a_folder_holds(tmp_path):
    LogitScore(3, 1).save(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    again = LogitScore.load(str(tmp_path))
    assert again.get_config_dict() == {"true_token_id": 3, "false_token_id": 1, "module_input_name": "causal_logits"}
