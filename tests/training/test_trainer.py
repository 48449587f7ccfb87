import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from datasets import Dataset, IterableDataset
from fourfold.sparse_encoder.callbacks import SpladeRegularizerWeightSchedulerCallback
from fourfold.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss
from tests.support import WORDS
from torch import nn
from transformers import TrainerCallback

from fourfold import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    SparseEncoder,
    SparseEncoderTrainer,
    SparseEncoderTrainingArguments,
    losses,
)
from fourfold.errors import InputError, MissingTrainingError, TrainingError
from fourfold.evaluation import EmbeddingSimilarityEvaluator, TripletEvaluator
from fourfold.models import Router
from fourfold.testing import checkpoint, tiny_folder

ROWS = 24
PAIRS = {
    "anchor": [" ".join(WORDS[i % 7 : i % 7 + 1 + i % 4]) for i in range(ROWS)],
    "positive": [" ".join(WORDS[i % 5 : i % 5 + 2 + i % 6]) for i in range(ROWS)],
}
SCORED = {**PAIRS, "score": [i / ROWS for i in range(ROWS)]}


def dense(architecture="bert", **options):
    return SentenceTransformer(str(tiny_folder("dense", architecture)), device="cpu", **options)


def routed():
    parts = [list(dense()) for _ in range(2)]
    return SentenceTransformer(modules=[Router.for_query_document(*parts)], device="cpu")


def arguments(folder, cls=SentenceTransformerTrainingArguments, **options):
    defaults = {
        "output_dir": str(folder), "report_to": "none", "per_device_train_batch_size": 4, "logging_steps": 1,
        "save_strategy": "no", "disable_tqdm": True, "max_steps": 4, "learning_rate": 1e-3,
    }  # fmt: skip
    return cls(**{**defaults, **options})


def trainer(folder, data=None, model=None, loss=None, more=None, **options):
    model = dense() if model is None else model
    given = {"train_dataset": Dataset.from_dict(SCORED if data is None else data), **(more or {})}
    return SentenceTransformerTrainer(model, arguments(folder, **options), loss=loss, **given)


def weights(model):
    return {name: part.clone() for name, part in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(part, other[name]) for name, part in one.items())


# -- what is checked before the first step -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "loss", "message"),
    [
        (PAIRS, losses.CoSENTLoss, "train_dataset: CoSENTLoss needs labels .a score. in a column named label"),
        (
            SCORED,
            losses.TripletLoss,
            r"TripletLoss takes 3 columns .*\['anchor', 'positive'\]",
        ),
        ({**PAIRS, "label": ["a"] * ROWS}, losses.CoSENTLoss, "the label column 'label' holds text, and CoSENTLoss"),
        ({key: [] for key in SCORED}, losses.CoSENTLoss, "train_dataset has no rows"),
        ({**PAIRS, "dataset_name": ["x"] * ROWS}, losses.MultipleNegativesRankingLoss, "'dataset_name', a name that"),
        ({"text": PAIRS["anchor"]}, losses.MultipleNegativesRankingLoss, "at least 2 columns"),
    ],
)
def test_unfit_data(tmp_path, data, loss, message):
    with pytest.raises(InputError, match=message):
        trainer(tmp_path, data, loss=loss)


def test_an_inner_loss_is_looked_at(tmp_path):
    model = dense()
    with pytest.raises(InputError, match="CoSENTLoss needs labels"):
        trainer(tmp_path, PAIRS, model, losses.MatryoshkaLoss(model, losses.CoSENTLoss(model), [16]))


def test_the_evaluation_data_are_looked_at(tmp_path):
    with pytest.raises(InputError, match="eval_dataset: CoSENTLoss needs labels"):
        trainer(tmp_path, more={"eval_dataset": Dataset.from_dict(PAIRS)})


def test_data_of_several_names(tmp_path):
    data = {"first": Dataset.from_dict(PAIRS), "second": Dataset.from_dict({"text": PAIRS["anchor"]})}
    with pytest.raises(InputError, match="the dataset 'second': MultipleNegativesRankingLoss takes at least 2"):
        SentenceTransformerTrainer(
            dense(), arguments(tmp_path), train_dataset=data, loss=losses.MultipleNegativesRankingLoss
        )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loss": {"a": losses.CoSENTLoss}}, InputError, "losses by name need datasets by name: train_dataset"),
        ({"args": object()}, InputError, "args must be a SentenceTransformerTrainingArguments, got object"),
        ({"model": None}, TrainingError, "needs model or model_init"),
        ({"train_dataset": {"x": Dataset.from_dict(SCORED)}, "loss": {"y": losses.CoSENTLoss}}, InputError,
         "train_dataset has datasets without a loss: x; losses: y"),
        ({"train_dataset": IterableDataset.from_generator(lambda: iter([{"a": "x"}]))}, InputError,
         "the columns of the IterableDataset train_dataset are not known.*Features.*'a': Value"),
    ],
)  # fmt: skip
def test_unfit_arguments(tmp_path, options, error, message):
    given = {"model": dense(), "args": arguments(tmp_path), "train_dataset": Dataset.from_dict(SCORED), **options}
    with pytest.raises(error, match=message):
        SentenceTransformerTrainer(**given)


def test_an_evaluation_needs_something(tmp_path):
    with pytest.raises(InputError, match="needs something to evaluate: an eval_dataset, an evaluator"):
        trainer(tmp_path, eval_strategy="steps")


def test_a_route_that_is_not_there(tmp_path):
    model = routed()
    with pytest.raises(InputError, match="does not say which column takes which route"):
        trainer(tmp_path, PAIRS, model, losses.MultipleNegativesRankingLoss)
    for mapping, message in (
        ({"anchor": "qeury"}, "the route 'qeury', which the model's Router has not.*Did you mean 'query'"),
        ({"ancor": "query"}, "the column 'ancor'.*Did you mean 'anchor'"),
    ):
        with pytest.raises(InputError, match=message):
            trainer(tmp_path, PAIRS, model, losses.MultipleNegativesRankingLoss, router_mapping=mapping)


def test_missing_packages(tmp_path, monkeypatch):
    monkeypatch.setattr("fourfold.errors.installed", lambda package: package != "datasets")
    with pytest.raises(RuntimeError, match=r'pip install "fourfold\[train\]"'):
        trainer(tmp_path)
    assert issubclass(MissingTrainingError, ImportError)


def test_a_cross_encoder_takes_no_stream(tmp_path):
    model = CrossEncoder(str(tiny_folder("cross", "bert")), device="cpu")
    stream = Dataset.from_dict(SCORED).to_iterable_dataset()
    with pytest.raises(InputError, match="cannot be trained on an IterableDataset"):
        CrossEncoderTrainer(model, arguments(tmp_path, CrossEncoderTrainingArguments), train_dataset=stream)


# -- steps -------------------------------------------------------------------------------------------------------------


def test_columns_are_one_forward(tmp_path):
    made = trainer(tmp_path, PAIRS, loss=losses.MultipleNegativesRankingLoss)
    calls = []
    made.model[0].register_forward_hook(lambda module, inputs, output: calls.append(output["input_ids"].shape))
    made.train()
    assert len(calls) == 4
    assert all(rows == 1 for rows, _ in calls)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")  # transformers' own
@pytest.mark.parametrize("options", [
    {"bf16": True, "use_cpu": True}, {"gradient_checkpointing": True}, {"gradient_accumulation_steps": 2},
    {"dataloader_num_workers": 1}, {"optim": "sgd"}, {"torch_compile": False, "neftune_noise_alpha": None},
], ids=str)  # fmt: skip
def test_options(tmp_path, options):
    made = trainer(tmp_path, PAIRS, loss=losses.MultipleNegativesRankingLoss, **options)
    before = weights(made.model)
    made.train()
    history = [row["loss"] for row in made.state.log_history if "loss" in row]
    assert len(history) == 4
    assert all(0 < loss < 10 for loss in history)
    assert not same(before, weights(made.model))


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")
def test_checkpointing_changes_no_gradient(tmp_path):
    histories = []
    for options in ({}, {"gradient_checkpointing": True}):
        model = dense()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        made = trainer(tmp_path, PAIRS, model, losses.MultipleNegativesRankingLoss, **options)
        made.train()
        histories.append([row["loss"] for row in made.state.log_history if "loss" in row])
    assert histories[0] == pytest.approx(histories[1], abs=1e-5)


def test_streams(tmp_path):
    stream = Dataset.from_dict(PAIRS).to_iterable_dataset()
    made = SentenceTransformerTrainer(
        dense(), arguments(tmp_path), train_dataset=stream, eval_dataset=stream,
        loss=losses.MultipleNegativesRankingLoss,
    )  # fmt: skip
    made.train()
    assert made.state.global_step == 4
    assert made.evaluate()["eval_loss"] > 0


def test_columns_whose_names_begin_alike(tmp_path):
    data = {"a": PAIRS["anchor"], "a_input": PAIRS["positive"]}
    found = []
    for columns in (data, {"x": data["a"], "y": data["a_input"]}):
        made = trainer(tmp_path, columns, loss=losses.MultipleNegativesRankingLoss)
        made.train()
        found.append([row["loss"] for row in made.state.log_history if "loss" in row])
    assert found[0] == found[1]


def test_memory_that_does_not_suffice(tmp_path, monkeypatch):
    made = trainer(tmp_path, PAIRS, loss=losses.MultipleNegativesRankingLoss)

    def lacking(*args):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr(made.loss, "forward", lacking)
    with pytest.raises(RuntimeError, match=r"(?s)DefaultCPUAllocator.*step 1 \(anchor: 4 texts of \d+ tokens"):
        made.train()


def test_another_error_is_not_explained_as_memory(tmp_path, monkeypatch):
    made = trainer(tmp_path, PAIRS, loss=losses.MultipleNegativesRankingLoss)

    def wrong(*args):
        raise RuntimeError("something else")

    monkeypatch.setattr(made.loss, "forward", wrong)
    with pytest.raises(RuntimeError, match=r"^something else$"):
        made.train()


def test_learning_rates(tmp_path):
    made = trainer(tmp_path, learning_rate_mapping={"bias": 1e-5}, weight_decay=0.1)
    optimizer = made.create_optimizer()
    sizes = {(group["lr"], group["weight_decay"]): len(group["params"]) for group in optimizer.param_groups}
    biases = sum("bias" in name for name, _ in made.loss.named_parameters())
    assert sizes[1e-5, 0.0] == biases
    assert sum(sizes.values()) == len(list(made.loss.parameters()))
    with pytest.raises(InputError, match="'nothing like it' finds no parameter"):
        trainer(tmp_path, learning_rate_mapping={"nothing like it": 1e-5}).create_optimizer()


def test_a_loss_of_parts_is_logged(tmp_path):
    made = trainer(tmp_path, PAIRS, loss=losses.GlobalOrthogonalRegularizationLoss)
    made.train()
    row = made.state.log_history[0]
    assert row["gor_mean"] + row["gor_second_moment"] == pytest.approx(row["loss"], abs=2e-4)


def test_parameters_of_a_loss_are_trained(tmp_path):
    model = dense()
    loss = losses.SoftmaxLoss(model, model.get_embedding_dimension(), 3)
    before = loss.classifier.weight.clone()
    trainer(tmp_path, {**PAIRS, "label": [i % 3 for i in range(ROWS)]}, model, loss).train()
    assert not torch.equal(before, loss.classifier.weight)


def test_routes(tmp_path):
    model = routed()
    made = trainer(
        tmp_path, PAIRS, model, losses.MultipleNegativesRankingLoss,
        router_mapping={"anchor": "query", "positive": "document"},
    )  # fmt: skip
    tasks = []
    model[0].register_forward_pre_hook(lambda module, inputs: tasks.append(inputs[0].get("task")))
    made.train()
    assert tasks == ["query", "document"] * 4


def test_prompts_by_dataset(tmp_path):
    data = {"pairs": Dataset.from_dict(PAIRS), "scored": Dataset.from_dict(SCORED)}
    made = SentenceTransformerTrainer(
        dense(), arguments(tmp_path, prompts={"pairs": "the query ", "scored": {"positive": "the text "}}),
        train_dataset=data, loss={"pairs": losses.MultipleNegativesRankingLoss, "scored": losses.CoSENTLoss},
    )  # fmt: skip
    seen = {(batch["dataset_name"], "anchor_prompt_length" in batch) for batch in made.get_train_dataloader()}
    assert {name for name, _ in seen} == {"pairs", "scored"}
    assert data["pairs"].column_names == list(PAIRS)
    assert "dataset_name" not in data["pairs"][0]


@pytest.mark.parametrize("sampler", ["no_duplicates", "no_duplicates_hashed"])
def test_a_dataset_s_name_is_no_duplicate(tmp_path, sampler):
    data = {"pairs": Dataset.from_dict({"a": list("abcdefgh"), "b": list("ijklmnop"), "label": [0.0] * 8})}
    loss = {"pairs": losses.CoSENTLoss}
    made = SentenceTransformerTrainer(
        dense(), arguments(tmp_path, batch_sampler=sampler), train_dataset=data, loss=loss
    )
    assert [len(batch["label"]) for batch in made.get_train_dataloader()] == [4, 4]


def test_a_transform_of_the_data_is_kept(tmp_path):
    def upper(batch):
        return {"a": [text.upper() for text in batch["anchor"]], "b": batch["positive"]}

    data = Dataset.from_dict(PAIRS).with_transform(upper)
    loss = {"pairs": losses.MultipleNegativesRankingLoss}
    made = SentenceTransformerTrainer(dense(), arguments(tmp_path), train_dataset={"pairs": data}, loss=loss)
    row = made.train_dataset["pairs"][0]
    assert row["a"].isupper()
    assert row["dataset_name"] == "pairs"


# -- families ----------------------------------------------------------------------------------------------------------


def test_sparse_weights_grow(tmp_path):
    model = SparseEncoder(str(tiny_folder("sparse", "bert")), device="cpu")
    args = arguments(tmp_path, SparseEncoderTrainingArguments, max_steps=6, learning_rate=1e-5)
    loss = SpladeLoss(model, SparseMultipleNegativesRankingLoss(model), 0.08, 0.04)
    schedule = SpladeRegularizerWeightSchedulerCallback(loss, warmup_ratio=2 / 3)
    logged = []

    class Recorder(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in logs:
                logged.append(logs["document_regularizer_weight"])

    made = SparseEncoderTrainer(
        model, args, train_dataset=Dataset.from_dict(PAIRS), loss=loss, callbacks=[schedule, Recorder()]
    )
    made.train()
    assert logged == pytest.approx([0.08 * share**2 for share in (0, 0.25, 0.5, 0.75, 1, 1)])
    assert [callback for callback in made.callback_handler.callbacks if callback is schedule] == [schedule]


def test_a_splade_loss_gets_a_schedule(tmp_path, caplog):
    model = SparseEncoder(str(tiny_folder("sparse", "bert")), device="cpu")
    args = arguments(tmp_path, SparseEncoderTrainingArguments)
    made = SparseEncoderTrainer(model, args, train_dataset=Dataset.from_dict(PAIRS))
    assert isinstance(made.callback_handler.callbacks[1], SpladeRegularizerWeightSchedulerCallback)
    assert "grow during the first third" in caplog.text


@pytest.mark.parametrize(("labels", "loss"), [(1, "BinaryCrossEntropyLoss"), (3, "CrossEntropyLoss")])
def test_cross(tmp_path, labels, loss):
    model = CrossEncoder(str(checkpoint("bert", tmp_path / "model", head="labels", num_labels=labels)), device="cpu")
    data = Dataset.from_dict({**PAIRS, "label": [i % labels if labels > 1 else i % 2 for i in range(ROWS)]})
    made = CrossEncoderTrainer(model, arguments(tmp_path, CrossEncoderTrainingArguments), train_dataset=data)
    assert type(made.loss).__name__ == loss
    made.train()
    assert f"loss:{loss}" in model.model_card_data.tags


def test_a_loss_of_pairs_without_prompts(tmp_path, caplog):
    class Plain(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, inputs, labels):
            features = self.model.preprocess([list(pair) for pair in zip(*inputs, strict=True)])
            return nn.functional.binary_cross_entropy_with_logits(
                self.model(features)["scores"].view(-1), labels.float()
            )

    model = CrossEncoder(str(tiny_folder("cross", "bert")), device="cpu", num_labels=1)
    args = arguments(tmp_path, CrossEncoderTrainingArguments)
    CrossEncoderTrainer(model, args, train_dataset=Dataset.from_dict(SCORED), loss=Plain).train()
    assert "takes neither prompt nor task" in caplog.text


# -- evaluation --------------------------------------------------------------------------------------------------------


def test_evaluators(tmp_path):
    similar = EmbeddingSimilarityEvaluator(PAIRS["anchor"], PAIRS["positive"], SCORED["score"], name="dev")
    triplets = TripletEvaluator(PAIRS["anchor"], PAIRS["positive"], PAIRS["anchor"], name="dev")
    made = trainer(
        tmp_path, eval_strategy="steps", eval_steps=2, more={"evaluator": [similar, triplets]},
    )  # fmt: skip
    made.train()
    rows = [row for row in made.state.log_history if "eval_dev_spearman_cosine" in row]
    assert [row["step"] for row in rows] == [2, 4]
    assert "eval_sequential_score" in rows[0]
    assert "eval_loss" not in rows[0]
    assert (tmp_path / "eval" / "similarity_evaluation_dev_results.csv").read_text().count("\n") == 3
    assert not (tmp_path / "tmp_trainer").exists()


def test_several_datasets_are_evaluated_and_the_evaluator_once(tmp_path):
    calls = []

    def evaluator(model, output_path=None, epoch=-1, steps=-1):
        calls.append((epoch, steps))
        return {"number": 1.0}

    data = {"one": Dataset.from_dict(SCORED), "two": Dataset.from_dict(SCORED)}
    made = trainer(tmp_path, eval_strategy="steps", eval_steps=4, more={"eval_dataset": data, "evaluator": evaluator})
    made.train()
    assert calls == [(4 / 6, 4)]
    found = made.evaluate()
    assert len(calls) == 3
    assert {"eval_one_loss", "eval_two_loss", "eval_one_number", "eval_two_number"} <= set(found)


def test_evaluating_other_data(tmp_path):
    made = trainer(tmp_path)
    assert made.evaluate(Dataset.from_dict(SCORED))["eval_loss"] > 0
    with pytest.raises(InputError, match="evaluation needs an eval_dataset or an evaluator"):
        made.evaluate()


# -- folders -----------------------------------------------------------------------------------------------------------


def test_the_best_model_is_loaded(tmp_path):
    scores = iter([0.3, 0.9, 0.5])
    kept = {}

    def evaluator(model, output_path=None, epoch=-1, steps=-1):
        kept[steps] = weights(model)
        return {"number": next(scores)}

    made = trainer(
        tmp_path, max_steps=6, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2,
        load_best_model_at_end=True, metric_for_best_model="number", more={"evaluator": evaluator},
    )  # fmt: skip
    made.train()
    assert same(weights(made.model), kept[4])
    assert made.model.model_card_data.best_model_step == 4
    loaded = SentenceTransformer(str(tmp_path / "checkpoint-4"), device="cpu")
    assert same(weights(loaded), kept[4])


class Own(nn.Module):
    """A module that only this test knows."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, features):
        return {**features, "sentence_embedding": features["sentence_embedding"] * self.scale}

    def save(self, output_path, *args, safe_serialization=True, **kwargs):
        torch.save(self.state_dict(), Path(output_path, "own.bin"))

    @staticmethod
    def load(input_path, subfolder="", **kwargs):
        made = Own()
        made.load_state_dict(torch.load(Path(input_path, subfolder, "own.bin")))
        return made


def resumed(folder, model_of, **options):
    """Return the weights of a training that is cut after 6 of 10 steps and goes on in new objects."""
    given = {"max_steps": 10, "save_strategy": "steps", "save_steps": 3, **options}
    trainer(folder, PAIRS, model_of(), losses.MultipleNegativesRankingLoss, **given).train()
    whole = weights(SentenceTransformer(str(folder / "checkpoint-9"), device="cpu", trust_remote_code=True))
    for step in (9, 10):
        for file in (folder / f"checkpoint-{step}").rglob("trainer_state.json"):
            file.unlink()  # as if the process had been killed before it was written
    again = trainer(folder, PAIRS, model_of(), losses.MultipleNegativesRankingLoss, **given)
    again.train(resume_from_checkpoint=True)
    return whole, weights(SentenceTransformer(str(folder / "checkpoint-9"), device="cpu", trust_remote_code=True))


@pytest.mark.parametrize("sampler", ["batch_sampler", "no_duplicates"])
def test_resuming(tmp_path, sampler, caplog):
    whole, again = resumed(tmp_path, dense, batch_sampler=sampler)
    assert same(whole, again)
    assert "checkpoint-9 was not written to its end" in caplog.text


def test_resuming_with_modules_of_ones_own(tmp_path):
    def model():
        parts = list(dense())
        return SentenceTransformer(modules=[*parts, Own()], device="cpu")

    made = trainer(tmp_path, PAIRS, model(), losses.MultipleNegativesRankingLoss, save_strategy="steps", save_steps=2)
    made.train()
    other = trainer(
        tmp_path, PAIRS, model(), losses.MultipleNegativesRankingLoss, save_strategy="steps", save_steps=2, max_steps=6
    )
    other.train(resume_from_checkpoint=True)
    assert other.state.global_step == 6
    assert other.model[-1].scale.item() != 1


def test_nothing_to_resume_from(tmp_path):
    with pytest.raises(InputError, match="no whole checkpoint"):
        trainer(tmp_path).train(resume_from_checkpoint=True)


_KILLED = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
import torch
from tests.training.test_trainer import PAIRS, dense, losses, trainer, weights
torch.set_num_threads(1)
resume = sys.argv[2] == "resume"
made = trainer(Path(sys.argv[1]), PAIRS, dense(), losses.MultipleNegativesRankingLoss, max_steps=20,
               save_strategy="steps", save_steps=4, num_train_epochs=9)
made.train(resume_from_checkpoint=resume)
made.save_model(sys.argv[1] + "/final")
"""


def test_a_killed_training_resumes_bit_by_bit(tmp_path):
    root = str(Path(__file__).parents[2])
    script = tmp_path / "train.py"
    script.write_text(_KILLED.format(root=root))

    def run(folder, mode):
        return subprocess.Popen([sys.executable, str(script), str(tmp_path / folder), mode], cwd=root)

    whole = run("whole", "fresh")
    killed = run("killed", "fresh")
    while not list((tmp_path / "killed").glob("checkpoint-*/trainer_state.json")):
        assert killed.poll() is None
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "final").exists()
    assert run("killed", "resume").wait() == 0
    assert whole.wait() == 0
    one, other = (SentenceTransformer(str(tmp_path / name / "final"), device="cpu") for name in ("whole", "killed"))
    assert same(weights(one), weights(other))
    history = [json.loads((tmp_path / name / "checkpoint-20" / "trainer_state.json").read_text())["log_history"]
               for name in ("whole", "killed")]  # fmt: skip
    assert [row["loss"] for row in history[0]] == [row["loss"] for row in history[1]]


def test_a_model_from_a_function(tmp_path):
    made = SentenceTransformerTrainer(
        args=arguments(tmp_path), model_init=lambda trial: dense(), train_dataset=Dataset.from_dict(SCORED),
        loss=losses.CoSENTLoss,
    )  # fmt: skip
    first = made.model
    made.train()
    assert made.model is not first
    assert made.loss.model is made.model


def test_adapters(tmp_path):
    from peft import LoraConfig

    model = dense()
    model.add_adapter(LoraConfig(target_modules=["query", "value"], r=2, init_lora_weights=False))
    before = weights(model)
    made = trainer(
        tmp_path, PAIRS, model, losses.MultipleNegativesRankingLoss, save_strategy="steps", save_steps=2, max_steps=4
    )
    made.train()
    changed = {name for name, part in weights(model).items() if not torch.equal(part, before[name])}
    assert changed
    assert all("lora" in name for name in changed)
    assert (tmp_path / "checkpoint-2" / "adapter_model.safetensors").exists()
    again = dense()
    again.add_adapter(LoraConfig(target_modules=["query", "value"], r=2))
    other = trainer(
        tmp_path, PAIRS, again, losses.MultipleNegativesRankingLoss, save_strategy="steps", save_steps=2, max_steps=4
    )
    other._load_from_checkpoint(str(tmp_path / "checkpoint-4"))
    assert same(weights(model), weights(again))


def test_the_card(tmp_path):
    data = {"query": PAIRS["anchor"], "text": PAIRS["positive"], "label": [i % 2 for i in range(ROWS)]}
    model = dense()
    loss = losses.MatryoshkaLoss(model, losses.ContrastiveLoss(model), [32, 16])
    made = trainer(
        tmp_path, data, model, loss, more={"eval_dataset": Dataset.from_dict(data)}, eval_strategy="steps", eval_steps=2
    )
    made.train()
    made.create_model_card(language="en", license="mit", tags="mine")
    text = (tmp_path / "README.md").read_text()
    for part in (
        "- mine", "- generated_from_trainer", f"- dataset_size:{ROWS}", "- loss:MatryoshkaLoss",
        "- loss:ContrastiveLoss", "license: mit", "24 training samples", "<code>query</code>", "~50.00%",
        "`MatryoshkaLoss` with these parameters", "| Epoch", "Validation Loss", "per_device_train_batch_size",
        "encode_query", "Matryoshka Representation Learning",
    ):  # fmt: skip
        assert part in text, part


def test_a_card_that_names_other_datasets(tmp_path, caplog):
    model = dense()
    model.model_card_data.train_datasets = [{"name": "one"}, {"name": "two"}]
    trainer(tmp_path, model=model)
    assert "names 2 train_datasets, and the training has 1" in caplog.text
    assert len(model.model_card_data.train_datasets) == 1


def test_warnings_of_arguments(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        made = arguments(tmp_path, warmup_ratio=0.1)
    assert "warmup_ratio is deprecated" in caplog.text
    assert made.warmup_steps == 0.1
    with pytest.raises(InputError, match="router_mapping is a dictionary"):
        arguments(tmp_path, router_mapping="not json")


def test_a_graph_is_not_trained(tmp_path):
    model = dense()
    model.backend = "onnx"
    with pytest.raises(TrainingError, match="load it with backend='torch'"):
        SentenceTransformerTrainer(model, train_dataset=Dataset.from_dict({"a": ["x"], "b": ["y"]}))
