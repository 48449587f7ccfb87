"""What a model's card is made from: what its author says, what its training notes down, and the model itself."""

from __future__ import annotations

import copy
import logging
import os
import weakref
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub import CardData

from fourfold.families import _card_examples, _card_facts, _card_links, _card_results
from fourfold.store import card

if TYPE_CHECKING:
    from fourfold.families._model import BaseModel

logger = logging.getLogger(__name__)

# A save waits this long for the hub to say whether it knows the base model, once.
LOOK_UP_SECONDS = 3.0


@dataclass(eq=False, repr=False)
class BaseModelCardData(CardData):
    """Data of a model card; give one as ``model_card_data`` to say more than the model knows by itself.

    Attributes:
        language: Language codes; a string becomes a list of one.
        license: Name of the licence, as the hub writes it.
        model_name: Title of the card; None makes one from the class and the base model.
        model_id: ``owner/name`` on the hub.
        train_datasets: Data sets trained on, as dictionaries with ``name``, ``id`` or both.
        eval_datasets: Data sets evaluated on, likewise.
        task_name: What the model is for, as the end of a sentence.
        tags: Tags of the front matter.
        local_files_only: Whether the hub is never asked about ids.
        generate_widget_examples: Whether the model is run on the usage examples, so that the card shows results.
        base_model: Hub name of the model that this one was made from, known to exist.
        base_model_revision: Its commit.
        widget: Examples of the hub's widget.
        usage_examples: Texts of the usage snippet.
        training_logs: Rows of the training's log by column.
        eval_results_dict: Results by evaluator.
        ir_model: Whether the card shows queries and documents rather than texts of one kind; None where the model's
            prompts and modules decide.
    """

    placeholder: ClassVar[str] = "sentence_transformers_model_id"
    # What the description calls the model.
    kind: ClassVar[str] = "Sentence Transformer"
    links: ClassVar[_card_links.Links] = _card_links.DENSE

    language: str | list[str] | None = field(default_factory=list)
    license: str | None = None
    model_name: str | None = None
    model_id: str | None = None
    train_datasets: list[dict[str, Any]] = field(default_factory=list)
    eval_datasets: list[dict[str, Any]] = field(default_factory=list)
    task_name: str = "semantic search"
    tags: list[str] = field(default_factory=lambda: ["sentence-transformers"])
    local_files_only: bool = False
    generate_widget_examples: bool = True

    base_model: str | None = field(default=None, init=False)
    base_model_revision: str | None = field(default=None, init=False)
    non_default_hyperparameters: dict[str, Any] = field(default_factory=dict, init=False)
    all_hyperparameters: dict[str, Any] = field(default_factory=dict, init=False)
    eval_results_dict: dict[Any, dict[str, Any]] = field(default_factory=dict, init=False)
    training_logs: list[dict[str, Any]] = field(default_factory=list, init=False)
    widget: list[dict[str, Any]] = field(default_factory=list, init=False)
    usage_examples: list[str] | None = field(default=None, init=False)
    code_carbon_callback: Any = field(default=None, init=False)
    evaluation_duration: float = field(default=0.0, init=False)
    citations: dict[str, str] = field(default_factory=dict, init=False)
    best_model_step: int | None = field(default=None, init=False)
    ir_model: bool | None = field(default=None, init=False)
    datasets: list[str] = field(default_factory=list, init=False)
    pipeline_tag: str = field(default="feature-extraction", init=False)
    library_name: str = field(default="sentence-transformers", init=False)
    version: dict[str, str] = field(default_factory=_card_facts.versions, init=False)
    _training_start_time: float | None = field(default=None, init=False)
    _model: Any = field(default=None, init=False)
    _looked_up: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if isinstance(self.language, str):
            self.language = [self.language]
        self.train_datasets = self._known_datasets(self.train_datasets)
        self.eval_datasets = self._known_datasets(self.eval_datasets)
        if self.model_id and self.model_id.count("/") != 1:
            logger.warning("model_id must be owner/name, got %r; it is left out", self.model_id)
            self.model_id = None

    # -- what a user sets --------------------------------------------------------------------------------------------

    def set_model_id(self, model_id: str) -> None:
        """Set the model's name on the hub."""
        self.model_id = model_id

    def set_language(self, language: str | list[str]) -> None:
        """Set the language codes; a string becomes a list of one."""
        self.language = [language] if isinstance(language, str) else language

    def set_license(self, license: str) -> None:  # noqa: A002 - the contract's name
        """Set the licence."""
        self.license = license

    def add_tags(self, tags: str | list[str]) -> None:
        """Add tags that are not there yet."""
        for tag in [tags] if isinstance(tags, str) else tags:
            if tag not in self.tags:
                self.tags.append(tag)

    def set_base_model(self, model_id: str, revision: str | None = None) -> bool:
        """Set the base model if the hub knows it, and say whether it does.

        It is not asked about a local folder, with ``local_files_only``, or in offline mode; the answer is no then, as
        it is where the hub cannot be reached.

        Args:
            model_id: Name on the hub.
            revision: Branch, tag or commit; None is the default branch.
        """
        from huggingface_hub import HfApi, constants

        if self.local_files_only or constants.HF_HUB_OFFLINE or not model_id or os.path.exists(model_id):  # noqa: PTH110
            return False
        try:
            info = HfApi().model_info(model_id, revision=revision, timeout=LOOK_UP_SECONDS)
        except Exception as error:
            logger.debug("the base model %s could not be looked up: %s", model_id, error)
            return False
        self.base_model, self.base_model_revision = info.id, info.sha
        return True

    # -- what a training notes down ----------------------------------------------------------------------------------

    def set_widget_examples(self, dataset: Any) -> None:
        """Take examples for the hub's widget and for the snippet from a data set, or a mapping of them."""
        texts = _card_examples.columns(dataset)
        self.widget, examples = _card_examples.widget(texts, self.pipeline_tag)
        self.usage_examples = examples or self.usage_examples

    def set_losses(self, losses: list[Any]) -> None:
        """Note the losses of the training: a tag each, and what to cite for them."""
        self.citations.setdefault("Sentence Transformers", _card_facts.SENTENCE_BERT)
        for loss in losses:
            name = type(loss).__name__
            self.add_tags(f"loss:{name}")
            entry = getattr(loss, "citation", None)
            if isinstance(entry, str) and entry.strip():
                self.citations[name] = entry

    def set_best_model_step(self, step: int) -> None:
        """Note the step whose weights are the model's."""
        self.best_model_step = step

    def set_evaluation_metrics(self, evaluator: Any, metrics: dict[str, Any], epoch: float = 0, step: int = 0) -> None:
        """Note an evaluator's results, and its primary one in the log, in the row of the step if that is the last."""
        self.eval_results_dict[evaluator] = copy.copy(metrics)
        if _card_results.is_retrieval(evaluator):
            self.ir_model = True
        primary = getattr(evaluator, "primary_metric", None)
        if primary not in metrics:
            return
        row = {primary: metrics[primary]}
        if self.training_logs and self.training_logs[-1].get("Step") == step:
            self.training_logs[-1].update(row)
        else:
            self.training_logs.append({"Epoch": epoch, "Step": step, **row})

    # -- the model ---------------------------------------------------------------------------------------------------

    def register_model(self, model: BaseModel) -> None:
        """Connect the model that the card is about. It is not kept alive by this."""
        self._model = weakref.ref(model)

    @property
    def model(self) -> BaseModel | None:
        """The model that the card is about."""
        return None if self._model is None else self._model()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}

    def get_model_kind(self) -> str:
        """Return what the description calls the model."""
        return self.kind

    def output(self, width: int | None) -> str:
        """Return what an input becomes, as part of a sentence.

        Args:
            width: Length of a row, or None where no module tells.
        """
        return f"vectors of {width} numbers" if width else "vectors"

    def dimensions(self, width: int) -> str:
        """Return the length of a row in words."""
        return f"{width} dimensions"

    def get_default_model_name(self) -> str:
        """Return the title of a card whose author gave none."""
        name = type(self.model).__name__ if self.model is not None else self.kind.replace(" ", "")
        return f"{name} based on {self.base_model}" if self.base_model else name

    def get_model_specific_metadata(self) -> dict[str, Any]:
        """Return what the card says of the model itself; without a registered model, nothing."""
        return {} if self.model is None else _card_facts.metadata(self.model)

    def try_to_set_base_model(self) -> None:
        """Find the base model by the name that the transformers config carries. The hub is asked once at most."""
        config = getattr(self.model, "config", None)
        name = getattr(config, "_name_or_path", None) or getattr(config, "name_or_path", None)
        if self.base_model is None and name and not self._looked_up:
            self._looked_up = True
            self.set_base_model(str(name))

    def snippet(self, model: BaseModel, *, run: bool) -> _card_examples.Snippet:
        """Return Python that uses the model, with its results as comments if it is run."""
        raise NotImplementedError

    # -- what goes out -----------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return all data by name, with what the registered model and the results add."""
        own = {f.name: copy.copy(getattr(self, f.name)) for f in fields(self) if not f.name.startswith("_")}
        own["model_name"] = self.model_name or self.get_default_model_name()
        return {**own, **_card_results.front(self), **self.get_model_specific_metadata()}

    def to_yaml(self, line_break: str | None = None, original_order: list[str] | None = None) -> str:
        """Return the front matter as YAML."""
        text = card.front_yaml(_card_facts.front(self))
        return text if line_break is None else text.replace("\n", line_break)

    def _known_datasets(self, datasets: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give each data set a name, and drop ids that the hub does not know."""
        from huggingface_hub import constants

        for entry in datasets:
            name = entry.get("id") if isinstance(entry, dict) else None
            if not name:
                continue
            entry.setdefault("name", name)
            if self.local_files_only or constants.HF_HUB_OFFLINE:
                continue
            self._look_up_dataset(entry, name)
        return datasets

    def _look_up_dataset(self, entry: dict[str, Any], name: str) -> None:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

        try:
            info = HfApi().dataset_info(name, timeout=LOOK_UP_SECONDS)
        except (RepositoryNotFoundError, HFValidationError):
            logger.warning("the hub has no data set %r; its id is left out of the card", name)
            del entry["id"]
            return
        except Exception as error:
            logger.warning("the data set %r could not be looked up on the hub: %s", name, error)
            return
        if info.id not in self.datasets:
            self.datasets.append(info.id)
        found = getattr(info.card_data, "language", None) if info.card_data else None
        if found and not self.language:
            self.set_language(found)


@dataclass(eq=False, repr=False)
class SentenceTransformerModelCardData(BaseModelCardData):
    """Data of a dense encoder's card.

    >>> data = SentenceTransformerModelCardData(language="en", license="apache-2.0")
    >>> print(data.to_yaml().splitlines()[:3])
    ['language:', '- en', 'license: apache-2.0']
    """

    task_name: str = (
        "semantic textual similarity, semantic search, paraphrase mining, classification, clustering, and more"
    )
    tags: list[str] = field(
        default_factory=lambda: ["sentence-transformers", "sentence-similarity", "feature-extraction", "dense"]
    )
    pipeline_tag: str = field(default="sentence-similarity", init=False)

    def snippet(self, model: BaseModel, *, run: bool) -> _card_examples.Snippet:
        """Return Python that encodes and compares, as queries and documents where the model tells them apart."""
        return _card_examples.dense(model, self, run=run)


# What the modules of a sparse encoder say about it: a tag, a word of the title, and the module that makes it so.
_SPARSE_TRAITS = (
    ("asymmetric", "Asymmetric", "Router"),
    ("inference-free", "Inference-free", "SparseStaticEmbedding"),
    ("splade", "SPLADE", "SpladePooling"),
    ("csr", "CSR", "SparseAutoEncoder"),
)


@dataclass(eq=False, repr=False)
class SparseEncoderModelCardData(BaseModelCardData):
    """Data of a sparse encoder's card. The model that it is about adds tags by its modules.

    >>> SparseEncoderModelCardData(license="mit").tags
    ['sentence-transformers', 'sparse-encoder', 'sparse']
    >>> from fourfold.testing import tiny
    >>> model = tiny("sparse")
    >>> data = model.model_card_data
    >>> data.tags, data.get_default_model_name()
    (['sentence-transformers', 'sparse-encoder', 'sparse', 'splade'], 'SPLADE Sparse Encoder')
    """

    placeholder: ClassVar[str] = "sparse_encoder_model_id"
    kind: ClassVar[str] = "Sparse Encoder"
    links: ClassVar[_card_links.Links] = _card_links.SPARSE

    task_name: str = "semantic search and sparse retrieval"
    tags: list[str] = field(default_factory=lambda: ["sentence-transformers", "sparse-encoder", "sparse"])

    def register_model(self, model: BaseModel) -> None:
        """Connect the model that the card is about, and tag the card by its modules."""
        super().register_model(model)
        self.add_tags([tag for tag, _ in self._traits()])

    def get_model_kind(self) -> str:
        """Return what kind of sparse encoder the model is, by its modules."""
        return " ".join([*(word for _, word in self._traits()), self.kind])

    def get_default_model_name(self) -> str:
        """Return the title of a card whose author gave none: what kind of model it is."""
        return self.get_model_kind()

    def output(self, width: int | None) -> str:
        """Return what an input becomes, as part of a sentence."""
        of = "units" if "csr" in dict(self._traits()) else "terms"
        return f"weights of {f'{width} {of}' if width else of}, {self._active() or 'most of them zero'}"

    def dimensions(self, width: int) -> str:
        """Return the length of a row in words, and how much of it is not zero at most."""
        return ", ".join(filter(None, [super().dimensions(width), self._active()]))

    def _active(self) -> str:
        most = getattr(self.model, "max_active_dims", None)
        return f"at most {most} of them active" if most else ""

    def _traits(self) -> list[tuple[str, str]]:
        names = set() if self.model is None else _card_facts.class_names(self.model.modules())
        return [(tag, word) for tag, word, name in _SPARSE_TRAITS if name in names]

    def snippet(self, model: BaseModel, *, run: bool) -> _card_examples.Snippet:
        """Return Python that encodes and compares, and shows the terms that weigh most where they are words."""
        return _card_examples.sparse(model, self, run=run)


@dataclass(eq=False, repr=False)
class CrossEncoderModelCardData(BaseModelCardData):
    """Data of a cross encoder's card. The model that it is about says by its labels what it is for.

    >>> data = CrossEncoderModelCardData(license="mit")
    >>> data.tags, data.pipeline_tag
    (['sentence-transformers', 'cross-encoder', 'reranker'], 'text-ranking')
    """

    placeholder: ClassVar[str] = "cross_encoder_model_id"
    kind: ClassVar[str] = "Cross Encoder"
    links: ClassVar[_card_links.Links] = _card_links.CROSS

    task_name: str | None = None  # type: ignore[assignment]
    tags: list[str] = field(default_factory=lambda: ["sentence-transformers", "cross-encoder", "reranker"])
    pipeline_tag: str = field(default="text-ranking", init=False)
    ir_model: bool | None = field(default=True, init=False)

    def register_model(self, model: BaseModel) -> None:
        """Connect the model that the card is about, and take from its labels what it is for."""
        super().register_model(model)
        ranks = getattr(model, "num_labels", 1) == 1
        self.pipeline_tag = "text-ranking" if ranks else "text-classification"
        if self.task_name is None:
            self.task_name = "text reranking and semantic search" if ranks else "text pair classification"

    def output(self, width: int | None) -> str:
        """Return what an input becomes, as part of a sentence."""
        labels = getattr(self.model, "num_labels", 1)
        return "a score" if labels == 1 else f"scores of {labels} labels"

    def set_widget_examples(self, dataset: Any) -> None:
        """Take examples for the snippet from a data set, or a mapping of them: the hub has no widget for pairs."""
        rows = [texts[:2] for texts in next(iter(_card_examples.columns(dataset)), [])[:5]]
        self.usage_examples = [text for texts in rows if len(texts) == 2 for text in texts] or self.usage_examples

    def snippet(self, model: BaseModel, *, run: bool) -> _card_examples.Snippet:
        """Return Python that scores pairs, and ranks documents where there is one label."""
        return _card_examples.cross(model, self, run=run)


def generate_model_card(model: BaseModel, train_datasets: list[str] | None = None) -> str:
    """Return the text of a fresh card.

    Args:
        model: Any encoder.
        train_datasets: Names of data sets trained on, besides those that its card data holds.
    """
    data = model.model_card_data
    data.register_model(model)
    data.try_to_set_base_model()
    return card.generate(_card_facts.facts(model, data, train_datasets or []))
