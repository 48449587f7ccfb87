"""Checkpoints that go to the hub while a training runs: what is uploaded is a whole model."""

from pathlib import Path

import pytest
from datasets import Dataset

from fourfold import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses
from fourfold.testing import tiny_folder


@pytest.mark.parametrize("strategy", ["every_save", "end"])
def test_what_a_checkpoint_s_push_finds(tmp_path, monkeypatch, strategy):
    model = SentenceTransformer(str(tiny_folder("dense", "bert")), device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path), report_to="none", max_steps=2, save_strategy="steps", save_steps=1, disable_tqdm=True,
        hub_model_id="me/trained", hub_strategy=strategy, per_device_train_batch_size=2,
    )  # fmt: skip
    data = Dataset.from_dict({"a": ["the fox", "a dog", "x", "y"], "b": ["one", "two", "three", "four"]})
    trainer = SentenceTransformerTrainer(
        model, arguments, train_dataset=data, loss=losses.MultipleNegativesRankingLoss(model)
    )
    pushed = []
    monkeypatch.setattr("transformers.Trainer._push_from_checkpoint", lambda self, folder: pushed.append(folder))
    assert model.model_card_data.model_id == "me/trained"
    trainer.train()
    trainer._push_from_checkpoint(str(tmp_path / "checkpoint-2"))
    assert pushed == [str(tmp_path / "checkpoint-2")]
    assert (tmp_path / "modules.json").exists() == (strategy == "every_save")
    if strategy == "every_save":
        again = SentenceTransformer(str(tmp_path), device="cpu")
        assert all(part.equal(again.state_dict()[name]) for name, part in model.state_dict().items())
        left_out = ("optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth")
        assert not any(Path(tmp_path, name).exists() for name in left_out)
