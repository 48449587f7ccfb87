"""Checkpoints that go to the hub while a training runs."""

import pytest
from datasets import Dataset

from fourfold import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses
from fourfold.testing import tiny_folder


# transformers switches bars off and on around a push; the suite has them off.
@pytest.mark.filterwarnings("ignore:Cannot (en|dis)able progress bars:UserWarning")
def test_checkpoints_are_pushed(tmp_path, hub):
    model = SentenceTransformer(str(tiny_folder("dense", "bert")), device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "run"), report_to="none", max_steps=2, save_strategy="steps", save_steps=1,
        disable_tqdm=True, push_to_hub=True, hub_model_id="me/trained", hub_strategy="every_save", hub_token="hf_good",
        hub_always_push=True, per_device_train_batch_size=2,
    )  # fmt: skip
    data = Dataset.from_dict({"a": ["the fox", "a dog", "x", "y"], "b": ["one", "two", "three", "four"]})
    trainer = SentenceTransformerTrainer(
        model, arguments, train_dataset=data, loss=losses.MultipleNegativesRankingLoss(model)
    )
    assert model.model_card_data.model_id == "me/trained"
    trainer.train()
    again = SentenceTransformer("me/trained", device="cpu")
    for name, part in model.state_dict().items():
        assert part.equal(again.state_dict()[name])
    assert not any(file.endswith("optimizer.pt") for file in hub.files("me/trained"))
