"""Trainings by one of several processes, started by a test: writes the losses and the numbers of an evaluator."""

import importlib
import json
import os
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from accelerate.state import DistributedType, PartialState
from datasets import Dataset
from torch import nn

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog"]
FIRST = [" ".join(WORDS[i % 5 : i % 5 + 1 + i % 4]) for i in range(40)]
SECOND = [" ".join(WORDS[i % 3 : i % 3 + 2 + i % 6]) for i in range(40)]
SCORES = [i / 40 for i in range(40)]


# accelerate offers FSDP where there are accelerators. Told that there are, it shares weights out over gloo as well.
SHARDED = {
    "fsdp": True,
    "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": ["BertLayer"]},
    "save_strategy": "steps",
    "save_steps": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_dev_pearson_cosine",
    "eval_on_start": True,
}


def pretend_accelerators(there):
    start = getattr(PartialState, "plain_start", PartialState.__init__)

    def started(self, *args, **kwargs):
        start(self, *args, **kwargs)
        if self.distributed_type in (DistributedType.MULTI_CPU, DistributedType.MULTI_XPU):
            self.distributed_type = DistributedType.MULTI_XPU if there else DistributedType.MULTI_CPU

    PartialState.plain_start, PartialState.__init__ = start, started


def made(package, losses, model_folder, loss, options):
    """Return a model without dropout, and a loss of it."""
    model = package.SentenceTransformer(model_folder, device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    made = getattr(losses, loss)(model, **options.get("loss_options", {}))
    return model, losses.MatryoshkaLoss(model, made, [32, 16]) if options.get("matryoshka") else made


def train(package, evaluation, losses, model_folder, output, loss, options):
    sharded = options.get("sharded", False)
    pretend_accelerators(sharded)
    data = {"anchor": FIRST, "positive": SECOND, **({"score": SCORES} if loss == "CoSENTLoss" else {})}
    evaluator = evaluation.EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, name="dev")

    def trained(resume=None):
        model, loss_fn = made(package, losses, model_folder, loss, options)
        arguments = package.SentenceTransformerTrainingArguments(**{
            "output_dir": output, "report_to": "none", "use_cpu": True, "per_device_train_batch_size": 4,
            "logging_steps": 1, "max_steps": 4, "save_strategy": "no", "disable_tqdm": True, "learning_rate": 1e-3,
            "eval_strategy": "steps", "eval_steps": 2, **(SHARDED if sharded else {}), **options.get("arguments", {}),
        })  # fmt: skip
        trainer = package.SentenceTransformerTrainer(
            model, arguments, train_dataset=Dataset.from_dict(data), loss=loss_fn, evaluator=evaluator
        )
        if options.get("evaluated"):
            trainer.evaluate()
        if sharded:
            with pytest.raises(package.errors.TrainingError, match="eval_on_start=True"):
                trainer.evaluate()
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    trainer = trained()
    history = trainer.state.log_history
    found = {
        "losses": [row["loss"] for row in history if "loss" in row],
        "scores": [row["eval_dev_pearson_cosine"] for row in history if "eval_dev_pearson_cosine" in row],
    }
    with trainer.whole_model() if sharded else nullcontext(trainer.model) as model:
        found["weights"] = weight(model)
        found["alone"] = evaluator(model)["dev_pearson_cosine"]
    if sharded:
        folders = sorted(Path(output).glob("checkpoint-*"))
        found["folders"] = [weight(package.SentenceTransformer(str(folder), device="cpu")) for folder in folders]
        again = trained(str(folders[0]))
        found["resumed"] = [row["loss"] for row in again.state.log_history if "loss" in row]
        again.save_model(f"{output}/final")
        torch.distributed.barrier()
        found["final"] = weight(package.SentenceTransformer(f"{output}/final", device="cpu"))
    return found


def weight(model):
    return sum(float(part.double().abs().sum()) for part in model.state_dict().values())


def gathered(util, rank):
    """Return rows of both processes, and the gradients that come back to this one's."""
    found = []
    for with_grad in (False, True):
        rows = (torch.arange(4.0).view(2, 2) + 10 * rank).requires_grad_()
        every = util.all_gather(rows, with_grad=with_grad)
        (every * torch.arange(8.0).view(4, 2) * (rank + 1)).sum().backward()
        tokens = torch.ones(2, 2 + rank, 3)
        padded, mask = util.all_gather_padded(tokens, torch.ones(2, 2 + rank, dtype=torch.long), with_grad=with_grad)
        found += [every.tolist(), rows.grad.tolist(), padded.tolist(), mask.tolist()]
    return found


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
    found["rows"] = gathered(importlib.import_module(f"{package.__name__}.util"), int(os.environ["RANK"]))
    Path(output, f"rank{os.environ['RANK']}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
