"""What a model card says, gathered from the model and from its card data."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import platform
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fourfold.families import _card_results
from fourfold.modules.router import Router
from fourfold.store._card_training import Dataset, Training
from fourfold.store.card import Facts

if TYPE_CHECKING:
    from fourfold.families._model import BaseModel
    from fourfold.families.model_card import BaseModelCardData

logger = logging.getLogger(__name__)

SIMILARITIES = {
    "cosine": "Cosine Similarity", "dot": "Dot Product", "euclidean": "Euclidean Distance",
    "manhattan": "Manhattan Distance", "maxsim": "MaxSim", "meanmaxsim": "MeanMaxSim",
}  # fmt: skip
_RETRIEVAL_PROMPTS = ("query", "document", "passage", "corpus")
_PACKAGES = {
    "fourfold": "fourfold", "Transformers": "transformers", "PyTorch": "torch", "Accelerate": "accelerate",
    "Datasets": "datasets", "Tokenizers": "tokenizers",
}  # fmt: skip


# What many losses have in common is cited once: Reimers and Gurevych 2019, arXiv:1908.10084.
SENTENCE_BERT = """@inproceedings{reimers-2019-sentence-bert,
    title = "Sentence-{BERT}: Sentence Embeddings using {S}iamese {BERT}-Networks",
    author = "Reimers, Nils and Gurevych, Iryna",
    booktitle = "Proceedings of the 2019 Conference on Empirical Methods in Natural Language Processing",
    year = "2019",
    publisher = "Association for Computational Linguistics",
    url = "https://arxiv.org/abs/1908.10084",
}"""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a training depends on, as far as they are installed."""
    found = {"Python": platform.python_version()}
    for name, package in _PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def is_retrieval(model: Any, data: BaseModelCardData) -> bool:
    """Whether the model tells queries from documents: by prompts, by a router, or by what it was trained on."""
    if data.ir_model is not None:
        return data.ir_model
    if any(model.prompts.get(name) for name in _RETRIEVAL_PROMPTS):
        return True
    if "Router" in class_names(model):
        return True
    columns = {_plain(column) for dataset in data.train_datasets for column in dataset.get("columns", ())}
    return not columns.isdisjoint({"query", "question"})


def class_names(modules: Iterable[Any]) -> set[str]:
    """Return the names of the modules' classes and of all that those are made from."""
    return {cls.__name__ for module in modules for cls in type(module).__mro__}


def routes(model: Any) -> dict[str, Any]:
    """Return the chains of modules between which the first module chooses, by name; none for most models."""
    first = model._first_module()
    return dict(first.sub_modules.items()) if isinstance(first, Router) else {}


def lengths(model: Any) -> dict[str, Any]:
    """Return the most tokens that each route takes, where they differ."""
    found = model._first_module().lengths if routes(model) else {}
    return found if len(set(found.values())) > 1 else {}


def metadata(model: Any) -> dict[str, Any]:
    """Return what a card says of the model itself."""
    first = model._first_module()
    name = getattr(model, "similarity_fn_name", None)
    return {
        "model_max_length": model._longest(),
        "model_string": repr(model),
        "supported_modalities": [_modality(kind) for kind in model.modalities],
        "query_length": getattr(first, "query_length", None),
        "document_length": getattr(first, "document_length", None),
        "output_dimensionality": model.get_embedding_dimension() if hasattr(model, "get_embedding_dimension") else None,
        "num_labels": getattr(model, "num_labels", None),
        "similarity_fn_name": SIMILARITIES.get(name, str(name).replace("_", " ").title()) if name else None,
    }


def front(data: BaseModelCardData) -> dict[str, Any]:
    """Return the values of the front matter, empty ones included."""
    return {
        "language": data.language,
        "license": data.license,
        "tags": data.tags,
        "base_model": data.base_model,
        "widget": data.widget,
        "datasets": data.datasets,
        "pipeline_tag": data.pipeline_tag,
        "library_name": data.library_name,
        **_card_results.front(data),
        "co2_eq_emissions": _emissions(data)[0],
    }


def facts(model: BaseModel, data: BaseModelCardData, train_datasets: list[str]) -> Facts:
    """Return all that the card of a model says.

    Args:
        model: Any encoder.
        data: Its card data.
        train_datasets: Names of data sets trained on, besides those that the card data holds.
    """
    # A model may find out the width of its rows only when it first runs.
    usage = data.snippet(model, run=data.generate_widget_examples).code
    known = metadata(model)
    train, evaluated = ([_dataset(entry) for entry in entries] for entries in (data.train_datasets, data.eval_datasets))
    values = front(data)
    values["datasets"] = list(dict.fromkeys([*data.datasets, *train_datasets]))
    links = [dataset.link for dataset in train if dataset.link]
    links += [name for name in train_datasets if name not in {dataset.name for dataset in train}]
    return Facts(
        front=values,
        title=data.model_name or data.get_default_model_name(),
        summary=_summary(data, known, links),
        description=_description(model, data, known, links),
        architecture=known["model_string"],
        usage=usage,
        evaluations=_card_results.evaluations(data),
        training=_training(data, train, evaluated),
        citations=data.citations or {"Sentence Transformers": SENTENCE_BERT},
        sources=data.links.sources,
        resources=data.links.resources,
    )


def _summary(data: BaseModelCardData, known: dict[str, Any], links: list[str]) -> str:
    made = f", made from [{data.base_model}](https://huggingface.co/{data.base_model})" if data.base_model else ""
    trained = f", trained on {', '.join(links)}" if links else ""
    output = data.output(known["output_dimensionality"])
    kind = data.get_model_kind()
    article = "an" if kind[0] in "AEIOU" else "a"
    return f"This is {article} {kind} model{made}{trained}. It turns its inputs into {output}, for {data.task_name}."


def _description(
    model: Any, data: BaseModelCardData, known: dict[str, Any], links: list[str]
) -> list[tuple[str, str | None]]:
    base = f"[{data.base_model}](https://huggingface.co/{data.base_model})" if data.base_model else None
    if base and data.base_model_revision:
        base += f" <!-- at revision {data.base_model_revision} -->"
    languages = [data.language] if isinstance(data.language, str) else list(data.language or [])
    width, kinds = known["output_dimensionality"], known["supported_modalities"]
    apart = ", ".join(f"{_tokens(length) or 'unknown'} ({name})" for name, length in lengths(model).items())
    rows: list[tuple[str, str | None]] = [
        ("Model Type", data.get_model_kind()),
        ("Base model", base),
        ("Maximum Sequence Length", apart or _tokens(known["model_max_length"])),
    ]
    for name in ("query_length", "document_length"):
        if known[name] is not None:
            rows.append((name.replace("_length", " length").title(), _tokens(known[name])))
    if chains := routes(model):
        shown = (f"{name} ({', '.join(type(part).__name__ for part in chain)})" for name, chain in chains.items())
        rows.append(("Routes", "; ".join(shown)))
    if (labels := known["num_labels"]) is not None:
        rows.append(("Number of Output Labels", f"{labels} {_plural('label', 'labels', range(labels))}"))
    else:
        rows.append(("Output Dimensionality", data.dimensions(width) if width else None))
        rows.append(("Similarity Function", known["similarity_fn_name"]))
    rows += [
        (_plural("Supported Modality", "Supported Modalities", kinds), ", ".join(kinds)),
        (_plural("Training Dataset", "Training Datasets", links), ", ".join(links)),
        (_plural("Language", "Languages", languages), ", ".join(languages)),
        ("License", data.license),
    ]
    return rows


def _plural(one: str, several: str, values: Sequence[Any]) -> str:
    return several if len(values) > 1 else one


def _tokens(length: Any) -> str | None:
    if length is None:
        return None
    return "no limit" if isinstance(length, float) and math.isinf(length) else f"{length} tokens"


def _modality(kind: Any) -> str:
    parts = [kind] if isinstance(kind, str) else list(kind)
    return " + ".join(part.title() for part in parts)


def _plain(column: Any) -> str:
    return str(column).removeprefix("<code>").removesuffix("</code>")


def _dataset(entry: Any) -> Dataset:
    if not isinstance(entry, dict):
        return Dataset(name=str(entry))
    loss, config = _loss(entry.get("loss"))
    return Dataset(
        name=entry.get("name"),
        id=entry.get("id"),
        revision=entry.get("revision"),
        size=entry.get("size"),
        columns=[_plain(column) for column in entry.get("columns", [])],
        stats=entry.get("stats", {}),
        examples=entry.get("examples", {}),
        loss=loss,
        loss_config=config,
    )


def _loss(given: Any) -> tuple[str | None, dict[str, Any]]:
    """Return the name and the settings of a loss: a loss, its name, or a dictionary of ``fullname`` and ``config``."""
    if isinstance(given, dict):
        return str(given.get("fullname", "")).rpartition(".")[2] or None, given.get("config") or {}
    if given is None or isinstance(given, str):
        return given, {}
    return type(given).__name__, given.get_config_dict() if hasattr(given, "get_config_dict") else {}


def _training(data: BaseModelCardData, train: list[Dataset], evaluated: list[Dataset]) -> Training:
    _, energy, hardware = _emissions(data)
    return Training(
        train=train,
        evaluation=evaluated,
        changed=data.non_default_hyperparameters,
        hyperparameters=data.all_hyperparameters,
        logs=data.training_logs,
        best_step=data.best_model_step,
        emissions=energy,
        hardware=hardware,
        times=_times(data),
        versions=data.version,
    )


def _times(data: BaseModelCardData) -> dict[str, str]:
    if data._training_start_time is None:
        return {}
    total = time.time() - data._training_start_time
    named = {"Training": total - data.evaluation_duration, "Evaluation": data.evaluation_duration, "Total": total}
    return {name: _duration(seconds) for name, seconds in named.items() if seconds > 0}


def _duration(seconds: float) -> str:
    """Return a duration in the unit that fits.

    >>> _duration(90), _duration(7200)
    ('1.5 minutes', '2.0 hours')
    """
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def _emissions(data: BaseModelCardData) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """Return what CodeCarbon measured: for the front matter, as rows about energy, and as rows about the machine."""
    tracker = getattr(data.code_carbon_callback, "tracker", None)
    measured = getattr(tracker, "final_emissions_data", None)
    if measured is None:
        return {}, {}, {}
    grams, hours = measured.emissions * 1000, measured.duration / 3600
    values = {
        "emissions": grams,
        "energy_consumed": measured.energy_consumed,
        "source": "codecarbon",
        "training_type": "fine-tuning",
        "on_cloud": measured.on_cloud == "Y",
        "cpu_model": measured.cpu_model,
        "ram_total_size": measured.ram_total_size,
        "hours_used": round(hours, 3),
    }
    hardware = {"CPU Model": str(measured.cpu_model), "RAM Size": f"{measured.ram_total_size:.2f} GB"}
    if measured.gpu_model:
        values["hardware_used"] = measured.gpu_model
        hardware["GPU Model"] = str(measured.gpu_model)
    energy = {
        "Energy Consumed": f"{measured.energy_consumed:.3f} kWh",
        "Carbon Emitted": f"{grams / 1000:.3f} kg of CO2",
        "Hours Used": f"{hours:.3f} hours",
    }
    return values, energy, {"On Cloud": "Yes" if values["on_cloud"] else "No", **hardware}
