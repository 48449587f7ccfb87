"""The older library's names and paths, and where each name lives here: the one table behind every lazy namespace.

``paths.txt`` is what the older library has. :data:`HOMES` says where ours are; a name without a home is not there yet,
and a module path is there as soon as one of the names that it defines is. A model part needs no row: the registry of
:mod:`fourfold.modules` knows its file. Whoever adds a name of the contract adds it here, and it can be imported from
every path of the contract, below ``fourfold`` and under the old name.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from fourfold import _CONTRACT
from fourfold.evaluation import registry as evaluators
from fourfold.losses import cross, sparse
from fourfold.losses import registry as losses
from fourfold.modules import registry

OLD = "sentence_transformers"

# Home below fourfold: names of the contract that are found there; "theirs=ours" where ours has a name of its own.
HOMES = {
    "compat.classes": "import_from_string import_module_class",
    "compat.decorators": "save_to_hub_args_decorator",
    "compat.environment": """check_package_availability check_version_requirements
        get_device_name get_installed_version is_accelerate_available is_datasets_available is_training_available""",
    "compat.files": "ORIGINAL_TRANSFORMER_MODELS append_to_last_row http_get",
    "compat.paths": "DEPRECATED_MODULE_PATHS",
    "exporting.calibration": "disable_datasets_caching",
    "exporting.contract": """_save_pretrained_wrapper backend_should_export backend_warn_to_save load_onnx_model
        load_openvino_model save_or_push_to_hub_model""",
    "families._adapters": "PeftAdapterMixin=Adapters",
    "families._cross_arguments": """cross_encoder_init_args_decorator=older_init_arguments
        cross_encoder_predict_rank_args_decorator=older_predict_arguments""",
    "families._model": "BaseModel",
    "families.model_card": "BaseModelCardData generate_model_card",
    "logs": "disable_logging disabled_tqdm install_logger",
    "losses._columns": "column_merging_disabled embed_columns",
    "losses._gather": "all_gather all_gather_padded all_gather_with_grad",
    "losses._gradient_cache": "CachedLossMixin RandContext has_static_embedding_input uses_gradient_cache",
    "losses.batch_hard_triplet_loss": "BatchHardTripletLossDistanceFunction",
    "losses.contrastive_loss": "SiameseDistanceMetric",
    "losses.contrastive_tension_loss": "ContrastiveTensionDataLoader ContrastiveTensionLossInBatchNegatives",
    "losses.matryoshka_loss": "shrink",
    "losses.sparse.csr_loss": "CSRReconstructionLoss normalized_mean_squared_error",
    "losses.triplet_loss": "TripletDistanceMetric",
    "modules._base": "Module InputModule",
    "modules.router": "Asym=Router",
    "modules.sparse_auto_encoder": "TiedTranspose",
    "modules.tokenizer": """ENGLISH_STOP_WORDS PhraseTokenizer TransformersTokenizerWrapper WhitespaceTokenizer
        WordTokenizer""",
    "notices": "deprecated_kwargs=renamed_keywords",
    "ops.device": "_move_tensors_to_cpu=move_to_cpu _move_tensors_to_device=move batch_to_device",
    "ops.names": "fullname similarity_fct_name",
    "ops.padded": "cat_padded_token_embeddings repad_flattened_features stack_padded_token_embeddings",
    "ops.processes": "get_rank get_world_size is_dist_initialized",
    "ops.similarity": """_convert_to_tensor=as_tensor cos_sim dot_score euclidean_sim manhattan_sim
        pairwise_angle_sim pairwise_cos_sim pairwise_dot_score pairwise_euclidean_sim pairwise_manhattan_sim
        pytorch_cos_sim=cos_sim""",
    "ops.vectors": """_convert_to_batch=to_batch _convert_to_batch_tensor=to_batch_tensor
        _convert_to_float_tensor=to_float_tensor _tensor_to_numpy=to_array compute_count_vector normalize_embeddings
        select_max_active_dims to_scipy_coo truncate_embeddings""",
    "search.communities": "community_detection",
    "search.engines.elasticsearch": "semantic_search_elasticsearch",
    "search.engines.opensearch": "semantic_search_opensearch",
    "search.engines.qdrant": "semantic_search_qdrant",
    "search.engines.seismic": "semantic_search_seismic",
    "search.paraphrases": "paraphrase_mining paraphrase_mining_embeddings",
    "search.semantic": "information_retrieval semantic_search",
    "store.source": "is_sentence_transformer_model load_dir_path load_file_path",
    "evaluation._base": "BaseEvaluator SentenceEvaluator",
    "training._distributed": "distributed_evaluation",
    "training.arguments": """BaseTrainingArguments CrossEncoderTrainingArguments SentenceTransformerTrainingArguments
        SparseEncoderTrainingArguments""",
    "training.callbacks.model_card": """BaseModelCardCallback CrossEncoderModelCardCallback IGNORED_FIELDS
        ModelCardCallback SentenceTransformerModelCardCallback SparseEncoderModelCardCallback get_losses""",
    "training.callbacks.splade_callbacks": "SchedulerType SpladeRegularizerWeightSchedulerCallback",
    "training.collator": """BaseDataCollator CrossEncoderDataCollator DEFAULT_LABEL_COLUMNS
        SentenceTransformerDataCollator SparseEncoderDataCollator""",
    "training.cross": "CrossEncoderTrainer",
    "training.dense": "SentenceTransformerTrainer",
    "families._dense_legacy": "FitMixin=DenseLegacy",
    "training.legacy.callbacks": "EvaluatorCallback OriginalCallback SaveModelCallback",
    "training.legacy.cross_fit": "FitMixinLoss",
    "training.legacy.denoising": "DenoisingAutoEncoderDataset",
    "training.legacy.no_duplicates_loader": "NoDuplicatesDataLoader",
    "training.legacy.parallel_sentences": "ParallelSentencesDataset",
    "training.legacy.readers": """LabelSentenceReader NLIDataReader PairedFilesReader STSBenchmarkDataReader
        STSDataReader TripletReader""",
    "training.legacy.sentence_label": "SentenceLabelDataset",
    "training.legacy.sentences": "SentencesDataset",
    "training.samplers": """BatchSamplers DefaultBatchSampler GroupByLabelBatchSampler MultiDatasetBatchSamplers
        MultiDatasetDefaultBatchSampler NoDuplicatesBatchSampler ProportionalBatchSampler RoundRobinBatchSampler
        SetEpochMixin""",
    "training.sparse": "SparseEncoderTrainer",
    "training.trainer": "BaseTrainer",
    "text.modality": """MULTIMODAL_DICT_KEYS Modality format_modality infer_batch_modality infer_modality
        is_message_dict=is_message raise_unsupported_modality_error""",
}

# Packages of parts whose names mean something else elsewhere: two families have a MSELoss.
PARTS = {"cross_encoder.losses": cross.registry, "sparse_encoder.losses": sparse.registry}


# Names that one path means in a way of its own.
OWN = {
    ("cross_encoder.fit_mixin", "FitMixin"): "fourfold.families._cross_legacy:CrossLegacy",
    ("cross_encoder.model", "FitMixin"): "fourfold.families._cross_legacy:CrossLegacy",
    ("cross_encoder.fit_mixin", "SaveModelCallback"): "fourfold.training.legacy.cross_fit:SaveModelCallback",
}


class Row(NamedTuple):
    """What a path of the contract holds.

    Attributes:
        defined: Names that are the path's own; for a package, its ``__all__``.
        besides: Names that can be imported from it because it imports them.
    """

    defined: tuple[str, ...]
    besides: tuple[str, ...] = ()


@cache
def contract() -> dict[str, Row]:
    """Return every canonical path of the older library, ``""`` for its top, with its names."""
    return _tables()[0]


@cache
def renamed() -> dict[str, str]:
    """Return every deprecated path of the older library with the canonical path that it means."""
    return _tables()[1]


@cache
def _tables() -> tuple[dict[str, Row], dict[str, str]]:
    rows: dict[str, Row] = {}
    old_paths: dict[str, str] = {}
    text = Path(__file__).with_name("paths.txt").read_text(encoding="utf-8")
    for line in text.replace("\n    ", " ").splitlines():
        head, _, tail = line.partition(":")
        if line.startswith("#") or not tail:
            continue
        old, renames, new = (part.strip() for part in head.partition(">"))
        if renames:
            pairs = ((first, second or first) for first, _, second in (word.partition("=") for word in tail.split()))
            old_paths.update({_join(_top(old), first): _join(_top(new), second) for first, second in pairs})
        else:
            defined, _, besides = tail.partition("+")
            rows[_top(old)] = Row(tuple(defined.split()), tuple(besides.split()))
    return rows, old_paths


def _top(path: str) -> str:
    return "" if path == "." else path


def _join(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


@cache
def _homes() -> dict[str, str]:
    homes = dict(_CONTRACT)
    for place, row in HOMES.items():
        for word in row.split():
            theirs, _, ours = word.partition("=")
            homes[theirs] = f"fourfold.{place}:{ours or theirs}"
    return homes


@cache
def home(name: str, path: str = "") -> str | None:
    """Return ``"module:name"``, where a name of the contract lives in fourfold, or None if it is not there yet.

    Args:
        name: The name.
        path: The canonical path that it is asked of; a few names mean something else in another family.

    >>> home("dot_score"), home("Pooling"), home("pytorch_cos_sim")
    ('fourfold.ops.similarity:dot_score', 'fourfold.modules.pooling:Pooling', 'fourfold.ops.similarity:cos_sim')
    >>> home("no_such_name")
    """
    if (path, name) in OWN:
        return OWN[path, name]
    registries = [registry, losses, evaluators]
    for place, own in PARTS.items():
        if path == place or path.startswith(f"{place}."):
            # A reranker's loss that is not there yet is not the loss of vectors that has its name.
            registries = [own] if place == "cross_encoder.losses" else [own, losses]
    if name in _homes():
        return _homes()[name]
    for parts in registries:
        if name[:1].isupper() and name in parts:
            return f"{parts.package}.{parts.stem(name)}:{name}"
    return None


@cache
def names(path: str) -> dict[str, str]:
    """Return the names of a canonical path that are there, and the home of each."""
    row = contract().get(path, Row(()))
    found = ((name, home(name, path)) for name in (*row.defined, *row.besides))
    return {name: place for name, place in found if place is not None}


@cache
def missing(path: str) -> tuple[str, ...]:
    """Return the names that a canonical path defines in the older library and that are not there yet."""
    return tuple(name for name in contract()[path].defined if name not in names(path))


@cache
def exists(path: str) -> bool:
    """Whether a canonical path is there: a name that it defines is, or a path below it."""
    if path in contract() and any(name in names(path) for name in contract()[path].defined):
        return True
    return any(exists(below) for below in contract() if below.startswith(f"{path}."))


def canonical(path: str) -> str | None:
    """Return the canonical path for a path, canonical or deprecated, or None if there is no such path yet.

    >>> canonical("models.Pooling"), canonical("util.similarity"), canonical("trainer.nothing")
    ('sentence_transformer.modules.pooling', 'util.similarity', None)
    """
    new = renamed().get(path, path)
    return new if exists(new) else None


def is_contract(path: str) -> bool:
    """Whether the older library has a module or a name at a path, be it here or not."""
    parent, _, name = path.rpartition(".")
    row = contract().get(renamed().get(parent, parent))
    return path in contract() or path in renamed() or (row is not None and name in (*row.defined, *row.besides))


DEPRECATED_MODULE_PATHS = {f"{OLD}.{old}": f"{OLD}.{new}" for old, new in renamed().items()}
"""Deprecated paths of the older library in full, with the canonical path of each."""
