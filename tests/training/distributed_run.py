"""Trainings by one of several processes, started by a test: writes the losses and the numbers of an evaluator."""

import json
import os
import sys
import warnings
from pathlib import Path

import torch
from datasets import Dataset
from torch import nn

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog"]
FIRST = [" ".join(WORDS[i % 5 : i % 5 + 1 + i % 4]) for i in range(40)]
SECOND = [" ".join(WORDS[i % 3 : i % 3 + 2 + i % 6]) for i in range(40)]
SCORES = [i / 40 for i in range(40)]


def train(package, evaluation, losses, model_folder, output, loss, options):
    model = package.SentenceTransformer(model_folder, device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    data = {"anchor": FIRST, "positive": SECOND, **({"score": SCORES} if loss == "CoSENTLoss" else {})}
    made = getattr(losses, loss)(model, **options.pop("loss_options", {}))
    if options.pop("matryoshka", False):
        made = losses.MatryoshkaLoss(model, made, [32, 16])
    evaluator = evaluation.EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, name="dev")
    arguments = package.SentenceTransformerTrainingArguments(
        output_dir=output, report_to="none", use_cpu=True, per_device_train_batch_size=4, logging_steps=1, max_steps=6,
        save_strategy="no", disable_tqdm=True, learning_rate=1e-3, eval_strategy="steps", eval_steps=3, **options,
    )  # fmt: skip
    trainer = package.SentenceTransformerTrainer(
        model, arguments, train_dataset=Dataset.from_dict(data), loss=made, evaluator=evaluator
    )
    trainer.train()
    history = trainer.state.log_history
    return {
        "losses": [row["loss"] for row in history if "loss" in row],
        "scores": [row["eval_dev_pearson_cosine"] for row in history if "eval_dev_pearson_cosine" in row],
        "weights": sum(float(part.double().abs().sum()) for part in model.state_dict().values()),
        "alone": evaluator(model)["dev_pearson_cosine"],
    }


def main():
    library, model_folder, output, cases = *sys.argv[1:4], json.loads(sys.argv[4])
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if library == "ours":
        import fourfold as package
        from fourfold import evaluation, losses
    else:
        import sentence_transformers as package
        from sentence_transformers.sentence_transformer import evaluation, losses
    found = {
        name: train(package, evaluation, losses, model_folder, f"{output}/{name}", loss, options)
        for name, (loss, options) in cases.items()
    }
    Path(output, f"rank{os.environ['RANK']}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
