"""A training from a file: read it, check all of it, and build the trainer.

The file is YAML; :func:`read_config` reads it and tells everything that is wrong with it at once, :func:`build` opens
the model and the data and returns the family's trainer. Keys:

``family``
    ``dense``, ``sparse`` or ``cross``; left out, what the model's folder says.
``model``
    A folder or a name on the hub; or a mapping with ``name`` and arguments of the family's class, such as
    ``truncate_dim``, ``num_labels``, ``revision`` or ``trust_remote_code``, and ``max_seq_length``.
``datasets``
    ``train`` and ``eval``, each one data set or several by name. A data set is a path or a mapping with
    ``path`` (a file of .csv, .tsv, .jsonl or .parquet, a pattern, or a list) or
    ``hub`` (with ``subset``, ``split``, ``revision``), and ``columns`` (which, and in which order), ``rename``
    (``old: new``), ``classes`` (names of labels, numbered from 0) and ``limit`` (most rows).
``loss``
    A name; or a mapping with ``name`` and its arguments, where losses inside are written the same way; or
    ``by_dataset`` with one a data set. Left out, the trainer's own.
``arguments``
    The training arguments, all of them; ``output_dir`` is needed.
``evaluators``
    A list of mappings: ``name`` of the class, ``label`` (its ``name`` argument), ``data`` and ``columns`` (which column
    is which argument), further arguments as they are. Of retrieval: ``queries`` and ``corpus`` (a data set with ``id``
    and ``text``), ``relevant`` (one with ``query``, ``document`` and perhaps ``score``).
``peft``
    Arguments of peft's ``LoraConfig``: an adapter is trained instead of the model.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fourfold.errors import InputError, did_you_mean, require_training
from fourfold.training import _config_arguments, _config_data, _config_evaluators, _config_losses
from fourfold.training._config_file import Faults, below, parse_override, put, read_yaml, shown

__all__ = ["Plan", "TrainingConfig", "build", "parse_override", "plan", "read_config"]

_KEYS = ("family", "model", "datasets", "loss", "arguments", "evaluators", "peft")
_TRAINERS = {"dense": "SentenceTransformerTrainer", "sparse": "SparseEncoderTrainer", "cross": "CrossEncoderTrainer"}
# Constructor arguments of a model that no file can hold.
_NOT_IN_FILES = ("model_name_or_path", "modules", "model_card_data", "use_auth_token")


@dataclass(frozen=True)
class TrainingConfig:
    """A training that is yet to be built; every name in it is known.

    Attributes:
        path: The file.
        family: ``dense``, ``sparse`` or ``cross``.
        model: Name or folder of the model.
        model_options: Arguments of its class, and ``max_seq_length``.
        train: Data to train on; by name if there are several.
        eval: Data for the loss during training, likewise; None for none.
        loss: The loss; by data set if there are several; None is the trainer's own.
        arguments: The training arguments of the file.
        evaluators: The evaluators.
        peft: Arguments of the adapter; None for none.
    """

    path: Path
    family: str
    model: str
    model_options: dict[str, Any]
    train: Any
    eval: Any
    loss: _config_losses.Losses
    arguments: dict[str, Any]
    evaluators: list[_config_evaluators.EvaluatorSpec] = field(default_factory=list)
    peft: dict[str, Any] | None = None

    @property
    def output_dir(self) -> Path:
        """The folder of checkpoints and of the trained model."""
        return Path(self.arguments["output_dir"])


# -- reading -----------------------------------------------------------------------------------------------------------


def read_config(path: Path, overrides: Mapping[str, Any] | None = None) -> TrainingConfig:
    """Return what a file says, checked as far as that is possible without opening the model and reading all data.

    Args:
        path: The file.
        overrides: Values by dotted key, such as ``arguments.num_train_epochs``, in place of the file's.

    Raises:
        InputError: If anything is wrong; the message lists all of it, each with the path of its key.
        MissingTrainingError: If a package of the extra ``train`` is missing.
    """
    require_training("A training from a file")
    faults = Faults()
    read = read_yaml(path, faults)
    tree = faults.mapping("", {} if read is None else read, f"{path} must hold a mapping")
    for key, value in (overrides or {}).items():
        put(tree, key, value, faults)
    faults.unknown("", tree, _KEYS)
    name, options = _model(tree.get("model"), faults)
    family = _family(tree.get("family"), name, options, faults)
    data = faults.mapping("datasets", tree.get("datasets"), "a mapping with train, and eval if there is one")
    faults.unknown("datasets", data, ("train", "eval"))
    if "train" not in data:
        faults.add("datasets.train", "is missing: the data to train on")
    train, evaluated = (_datasets(data.get(key), f"datasets.{key}", faults) for key in ("train", "eval"))
    known = family or "dense"
    cls = model_class(known)
    if family is not None:
        taken = _config_arguments.parameters(cls, aside=_NOT_IN_FILES)
        _config_arguments.check_keys(options, taken, "model", faults, own=["name", "max_seq_length"])
    loss = _config_losses.parse(tree.get("loss"), known, "loss", faults) if family is not None else None
    _check_by_dataset(loss, train, faults)
    arguments = _config_arguments.training_arguments(
        tree.get("arguments"), trainer_class(known).training_args_class, "arguments", faults
    )
    evaluators = _config_evaluators.parse(tree.get("evaluators"), "evaluators", faults)
    peft = _peft(tree.get("peft"), faults)
    faults.check(str(path))
    return TrainingConfig(path, known, name, options, train, evaluated, loss, arguments, evaluators, peft)


def trainer_class(family: str) -> Any:
    """Return the trainer of a family."""
    return getattr(importlib.import_module(f"fourfold.training.{family}"), _TRAINERS[family])


def model_class(family: str) -> Any:
    """Return the model's class of a family."""
    return trainer_class(family).model_class


def _model(given: Any, faults: Faults) -> tuple[str, dict[str, Any]]:
    values = {"name": given} if isinstance(given, str) else faults.mapping("model", given, "a name, or a mapping")
    name = values.pop("name", None)
    if isinstance(name, str) and name:
        return name, values
    if given is None or isinstance(given, Mapping):
        faults.add("model" if given is None else "model.name", "is missing: a model's folder or its name on the hub")
    return "", values


def _family(given: Any, name: str, options: Mapping[str, Any], faults: Faults) -> str | None:
    """Return the family, or None if it cannot be known."""
    if given is not None:
        if given in _TRAINERS:
            return str(given)
        hint = did_you_mean(given, _TRAINERS)
        faults.add("family", f"must be one of {', '.join(_TRAINERS)}; got {shown(given)}.{hint}")
        return None
    if not name:
        return None
    from fourfold.families.load import family_of
    from fourfold.store.source import Source, locate

    with faults.during("model.name" if options else "model"):
        revision, token = options.get("revision"), options.get("token")
        offline = bool(options.get("local_files_only"))
        source = Source(locate(name, "sentence-transformers"), revision, token, options.get("cache_folder"), offline)
        return family_of(source.pinned())
    return None


def _datasets(given: Any, at: str, faults: Faults) -> Any:
    """Return where the rows of one data set come from, or of several by name."""
    if given is None:
        return None
    several = isinstance(given, Mapping) and given and all(isinstance(part, Mapping) for part in given.values())
    # A data set may be called like a key: `rename` of one data set is the only key that holds a mapping.
    if several and set(given) != {"rename"}:
        return {str(name): _config_data.parse(part, below(at, name), faults) for name, part in given.items()}
    return _config_data.parse(given, at, faults)


def _check_by_dataset(loss: Any, train: Any, faults: Faults) -> None:
    if isinstance(loss, dict) and not isinstance(train, dict):
        faults.add("loss.by_dataset", "needs several data sets by name in datasets.train")
    elif isinstance(loss, dict):
        faults.unknown("loss.by_dataset", loss, train)


def _peft(given: Any, faults: Faults) -> dict[str, Any] | None:
    if given is None:
        return None
    values = faults.mapping("peft", given, "a mapping of the arguments of LoraConfig")
    with faults.during("peft"):
        from fourfold.errors import require

        require("peft", "peft", "An adapter")
        from peft import LoraConfig

        faults.unknown("peft", values, [each.name for each in dataclasses.fields(LoraConfig) if each.init])
    return values


# -- building ----------------------------------------------------------------------------------------------------------


def build(config: TrainingConfig) -> Any:
    """Return the trainer of a file: model and data are opened, loss and evaluators built, and all of it checked.

    Args:
        config: What :func:`read_config` returned.

    Raises:
        InputError: If something cannot be opened or built, or does not fit the rest; the message lists it.
    """
    from transformers import set_seed

    trainer = trainer_class(config.family)
    faults = Faults()
    evaluates = config.eval is not None or bool(config.evaluators)
    arguments: Any = None
    with faults.during("arguments"):
        arguments = trainer.training_args_class(
            **_config_arguments.with_defaults(config.arguments, evaluates=evaluates)
        )
        # A new head, the classifier of a loss and an adapter begin with random weights.
        set_seed(arguments.seed)
    train, evaluated = _load(config.train, faults), _load(config.eval, faults)
    evaluators = []
    for spec in config.evaluators:
        with faults.during(spec.at):
            evaluators.append(spec.build())
    model = _open(config, faults)
    loss = _losses(config.loss, model, faults) if model is not None else None
    faults.check(str(config.path))
    try:
        return trainer(
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=evaluated,
            loss=loss,
            evaluator=evaluators[0] if len(evaluators) == 1 else evaluators or None,
        )
    except ValueError as error:
        raise InputError(f"{config.path}: {error}") from error


def _load(sources: Any, faults: Faults) -> Any:
    if isinstance(sources, dict):
        return {name: _load(source, faults) for name, source in sources.items()}
    if sources is not None:
        with faults.during(sources.at):
            return _config_data.load(sources)
    return None


def _open(config: TrainingConfig, faults: Faults) -> Any:
    options = dict(config.model_options)
    longest = options.pop("max_seq_length", None)
    with faults.during("model"):
        if isinstance(options.get("activation_fn"), str):
            options["activation_fn"] = _config_losses.torch_module(options["activation_fn"])
        model = model_class(config.family)(config.model, **options)
        if longest is not None:
            model.max_seq_length = longest
        if config.peft is not None:
            with faults.during("peft"):
                from peft import LoraConfig

                task = "SEQ_CLS" if config.family == "cross" else "FEATURE_EXTRACTION"
                model.add_adapter(LoraConfig(**{"task_type": task, **config.peft}))
        return model
    return None


def _losses(specs: _config_losses.Losses, model: Any, faults: Faults) -> Any:
    if isinstance(specs, dict):
        return {name: _losses(spec, model, faults) for name, spec in specs.items()}
    if specs is not None:
        with faults.during(specs.at):
            return specs.build(model)
    return None


# -- what would be done ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a training would do.

    Attributes:
        rows: Rows of each data set; its name is empty if it is the only one.
        columns: The columns of each.
        losses: The loss of each data set, or of all under an empty name.
        batch_size: Rows of a step, over all devices and accumulated batches.
        steps: How many steps.
        epochs: How many passes over the data.
        first_loss: The loss of the first batch, before any step.
    """

    rows: dict[str, int]
    columns: dict[str, list[str]]
    losses: dict[str, str]
    batch_size: int
    steps: int
    epochs: float
    first_loss: float


def plan(trainer: Any) -> Plan:
    """Return what a trainer would do, with the loss of its first batch; nothing is trained.

    Raises:
        InputError: If the loss cannot be computed, or is no finite number.
    """
    import torch

    from fourfold.training._datasets import members

    arguments = trainer.args
    loader = trainer.get_train_dataloader()
    training = trainer.model.training
    trainer.model.eval()
    try:
        with torch.no_grad():
            inputs = trainer._prepare_inputs(next(iter(loader)))
            first = float(trainer.compute_loss(trainer.model, inputs))
    finally:
        trainer.model.train(training)
    if not math.isfinite(first):
        raise InputError(f"the loss of the first batch is {first}; look at the data and at the loss's arguments")
    per_epoch = max(math.ceil(len(loader) / arguments.gradient_accumulation_steps), 1)
    steps = arguments.max_steps if arguments.max_steps > 0 else math.ceil(arguments.num_train_epochs * per_epoch)
    data = [(name or "", part) for name, part in members(trainer.train_dataset)]
    losses = trainer.loss if isinstance(trainer.loss, Mapping) else {"": trainer.loss}
    return Plan(
        rows={name: len(part) for name, part in data},
        columns={name: list(part.column_names) for name, part in data},
        losses={name: _title(loss) for name, loss in losses.items()},
        batch_size=arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size,
        steps=steps,
        epochs=steps / per_epoch,
        first_loss=first,
    )


def _title(loss: Any) -> str:
    """Return the name of a loss's class, with those inside it in brackets."""
    from fourfold.training.callbacks.model_card import get_losses

    outer, *inner = [type(part).__name__ for part in get_losses(loss)]
    return f"{outer}({', '.join(inner)})" if inner else outer
