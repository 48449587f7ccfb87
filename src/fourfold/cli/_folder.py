"""What a model folder says about itself, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourfold.cli._parts import TRANSFORMERS, Part, parts_of
from fourfold.errors import FolderError, MissingFileError
from fourfold.runtimes import KINDS
from fourfold.runtimes.files import candidates
from fourfold.runtimes.whole import DESCRIPTION_FILE
from fourfold.store.manifest import ModelConfig, ModuleEntry, architectures, read_modules
from fourfold.store.source import Source, locate
from fourfold.store.weights import PICKLE_FILE, SAFETENSORS_FILE, read_header

if TYPE_CHECKING:
    from fourfold.text.tokenizer import FastTokenizer

_FAMILIES = {
    "SentenceTransformer": "dense",
    "SparseEncoder": "sparse",
    "CrossEncoder": "cross",
    "MultiVectorEncoder": "multi-vector",
}
_STATIC = ("StaticEmbedding", "SparseStaticEmbedding")
_INDEX_FILE = f"{SAFETENSORS_FILE}.index.json"
# The settings of a module that say what it does to a vector; the rest is in the folder for who needs it.
_TELLING = (
    "pooling_mode", "pooling_strategy", "in_features", "out_features", "activation_function", "hidden_dim", "k",
    "max_seq_length", "do_lower_case",
)  # fmt: skip
_OLD_POOLING = "pooling_mode_"


def describe(model: str | None) -> dict[str, Any]:
    """Return the facts about a model: family, modules, dimension, limits, weights, prompts and backends.

    Raises:
        MissingFileError: If nothing there is a model.
        FolderError: If one of its files is broken.
    """
    source = _source(model)
    entries = read_modules(source)
    config = ModelConfig.read(source)
    checkpoint = source.at(entries[0].path if entries else "").object("config.json")
    if entries is None and not checkpoint:
        where = "" if source.is_local else "; nor does a hub model of that name, as far as it can be reached"
        raise MissingFileError(f"{source.pretty()} holds neither modules.json nor config.json{where}")
    parts = parts_of(source, entries or [])
    family = _family(entries, config, checkpoint)
    weights = _weights([part.source for top in parts for part in top.all()] or [source])
    return {
        "model": model or "the built-in model",
        "family": family,
        "modules": [_module(part) for part in parts]
        or [{"name": "Transformer", "type": _architecture(checkpoint), "settings": {}}],
        "dimension": None if family == "cross" else _dimension(source, parts, checkpoint, weights),
        "labels": _labels(parts, checkpoint) if family == "cross" else None,
        "max_length": _max_length(source, parts, checkpoint),
        "max_active_dims": _most_active(config, parts),
        "similarity": _similarity(family, config),
        "weights": {key: weights[key] for key in ("parameters", "dtypes", "bytes")},
        "prompts": config.prompts,
        "default_prompt_name": config.default_prompt_name,
        "backends": _backends(source, entries, parts),
    }


def weighs_tokens(model: str) -> bool:
    """Whether the numbers of a sparse model stand for tokens: those of a sparse auto-encoder stand for nothing."""
    source = _source(model)
    parts = parts_of(source, read_modules(source) or [])
    return all(part.name != "SparseAutoEncoder" for top in parts for part in top.all())


def tokenizer_of(model: str | None) -> tuple[FastTokenizer, int | None]:
    """Return a model's tokenizer and the most tokens that the model takes, None for no limit; loads nothing else.

    Raises:
        MissingFileError: If the folder holds no ``tokenizer.json``.
    """
    from fourfold.store.tokenizer import read_tokenizer
    from fourfold.text.tokenizer import FastTokenizer

    source = _source(model)
    parts = parts_of(source, read_modules(source) or [])
    first = _first(parts)
    inside = first.source if first else source
    static = first is not None and first.name in _STATIC
    tokenizer = FastTokenizer(read_tokenizer(inside), add_special_tokens=not static, owned=True)
    return tokenizer, _max_length(source, parts, inside.object("config.json"))


def _source(model: str | None) -> Source:
    if model is None:
        from fourfold.families.load import BUILTIN

        return Source(str(BUILTIN))
    return Source(locate(model, "sentence-transformers")).pinned()


def _first(parts: list[Part]) -> Part | None:
    """Return the module that takes the inputs; None for a plain checkpoint."""
    return next((inner for top in parts for inner in top.usual), None)


def _architecture(checkpoint: dict[str, Any]) -> str:
    return ", ".join(architectures(checkpoint.get("architectures"))) or str(checkpoint.get("model_type") or "unknown")


def _family(entries: list[ModuleEntry] | None, config: ModelConfig, checkpoint: dict[str, Any]) -> str:
    if entries is not None:
        return _FAMILIES.get(config.model_type, config.model_type)
    if "SequenceClassification" in _architecture(checkpoint):
        return "cross"
    return "dense (a plain checkpoint: mean pooling is added)"


def _module(part: Part) -> dict[str, Any]:
    raw = part.settings
    settings = {key: raw[key] for key in _TELLING if raw.get(key) not in (None, False)}
    modes = [key.removeprefix(_OLD_POOLING) for key, on in raw.items() if key.startswith(_OLD_POOLING) and on]
    if modes and "pooling_mode" not in settings:
        settings["pooling_mode"] = "+".join(mode.removesuffix("_tokens").removesuffix("_token") for mode in modes)
    module: dict[str, Any] = {"name": part.name, "type": part.type, "settings": settings}
    if part.routes:
        module["routes"] = {route: [_module(inner) for inner in inside] for route, inside in part.routes.items()}
        module["default_route"] = part.default_route
    return module


def _dimension(source: Source, parts: list[Part], checkpoint: dict[str, Any], weights: dict[str, Any]) -> int | None:
    """Return the width of the vectors that the last module to change it writes."""
    width = _hidden_size(checkpoint)
    for part in (inner for top in parts for inner in top.usual):
        raw, name = part.settings, part.name
        if name in TRANSFORMERS:
            checkpoint = part.source.object("config.json")
            width = _hidden_size(checkpoint)
        elif name == "Pooling":
            old = sum(bool(on) for key, on in raw.items() if key.startswith(_OLD_POOLING))
            modes = raw.get("pooling_mode")
            each = raw.get("embedding_dimension") or raw.get("word_embedding_dimension") or width
            count = len(modes) if isinstance(modes, list) else old or 1
            width = each * count if isinstance(each, int) else None
        elif name == "SpladePooling":
            stated = raw.get("embedding_dimension") or raw.get("word_embedding_dimension")
            width = stated or checkpoint.get("vocab_size")
        elif name == "SparseAutoEncoder":
            width = raw.get("hidden_dim", width)
        elif name == "Dense":
            width = raw.get("out_features", width)
        elif name == "StaticEmbedding":
            width = weights["widths"].get(part.source.subfolder, width)
        elif name == "SparseStaticEmbedding":
            width = weights["lengths"].get(part.source.subfolder) or _vocabulary(part.source)
    return width if isinstance(width, int) else None


def _labels(parts: list[Part], checkpoint: dict[str, Any]) -> int:
    """Return how many scores a cross encoder gives a pair, as its last module that makes scores tells."""
    for part in reversed([inner for top in parts for inner in top.usual]):
        if part.name == "LogitScore":
            return 1
        if part.name == "Dense" and part.settings.get("module_output_name") == "scores":
            return part.settings.get("out_features", 1)
        if part.name in TRANSFORMERS:
            checkpoint = part.source.object("config.json")
            break
    named = checkpoint.get("id2label")
    # transformers leaves the names out of a config where they are the usual two.
    return len(named) if isinstance(named, dict) else 2


def _similarity(family: str, config: ModelConfig) -> str | None:
    if family == "cross":
        return None
    return config.similarity_fn_name or ("dot" if family == "sparse" else "cosine")


def _vocabulary(source: Source) -> int | None:
    """Return the number of tokens that a tokenizer's file lists, where weights lie in a file by token."""
    model = source.object("tokenizer.json").get("model")
    ids = model.get("vocab") if isinstance(model, dict) else None
    return len(ids) if isinstance(ids, dict) else None


def _hidden_size(checkpoint: dict[str, Any]) -> Any:
    return checkpoint.get("hidden_size") or checkpoint.get("d_model") or checkpoint.get("dim")


def _most_active(config: ModelConfig, parts: list[Part]) -> int | None:
    """Return how many terms of a text a sparse model keeps at most."""
    encoders = [inner.settings for top in parts for inner in top.usual if inner.name == "SparseAutoEncoder"]
    stated = config.extra.get("max_active_dims") or (encoders[0].get("k") if encoders else None)
    return stated if isinstance(stated, int) else None


def _max_length(source: Source, parts: list[Part], checkpoint: dict[str, Any]) -> int | None:
    first = _first(parts)
    inside = first.source if first else source
    if first is not None and first.name == "StaticEmbedding":
        truncation = inside.object("tokenizer.json").get("truncation")
        return truncation.get("max_length") if isinstance(truncation, dict) else None
    asked = first.settings.get("max_seq_length") if first else None
    if isinstance(asked, int):
        return asked
    checkpoint = inside.object("config.json") if first and first.name in TRANSFORMERS else checkpoint
    limits = [inside.object("tokenizer_config.json").get("model_max_length"), checkpoint.get("max_position_embeddings")]
    # transformers writes an absurd number for a tokenizer that knows no limit.
    known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < 10**9]
    return min(known, default=None)


def _weights(folders: list[Source]) -> dict[str, Any]:
    found: dict[str, Any] = {"parameters": 0, "bytes": 0, "widths": {}, "lengths": {}}
    dtypes: dict[str, int] = {}
    for folder in dict.fromkeys(folders):
        # What is on this machine: a look at a model must not download gigabytes.
        for file, origin in _weight_files(replace(folder, offline=True)):
            found["bytes"] += file.stat().st_size
            if file.suffix != ".safetensors":
                continue
            for dtype, shape in _tensors(file, origin):
                count = 1
                for length in shape:
                    count *= length
                dtypes[dtype] = dtypes.get(dtype, 0) + count
                if len(shape) == 2:
                    found["widths"].setdefault(folder.subfolder, shape[1])
                elif len(shape) == 1:
                    found["lengths"].setdefault(folder.subfolder, shape[0])
    found["parameters"] = sum(dtypes.values())
    # Some checkpoints carry an index buffer; its dtype says nothing about the model.
    main = [name for name in dtypes if dtypes[name] > found["parameters"] / 1000]
    found["dtypes"] = sorted(main, key=lambda name: -dtypes[name])
    return found


def _weight_files(source: Source) -> Iterator[tuple[Path, str]]:
    """Yield a module's weights: one safetensors file, or its shards, or else the pickle."""
    index = source.object(_INDEX_FILE).get("weight_map")
    shards = sorted(set(index.values())) if isinstance(index, dict) else []
    names = [SAFETENSORS_FILE] if source.file(SAFETENSORS_FILE) else shards or [PICKLE_FILE]
    for name in names:
        file = source.file(str(name))
        if file is not None:
            yield file, source.pretty(str(name))


def _tensors(file: Path, origin: str) -> Iterator[tuple[str, list[int]]]:
    """Yield dtype and shape of each tensor from a safetensors header, without touching the data."""
    header, _ = read_header(file, origin)
    try:
        found = [(str(entry["dtype"]), [int(n) for n in entry["shape"]]) for entry in header.values()]
    except (ValueError, KeyError, TypeError) as error:
        raise FolderError(f"{origin} is not a safetensors file: {error}") from None
    yield from found


def _backends(source: Source, entries: list[ModuleEntry] | None, parts: list[Part]) -> list[str]:
    from fourfold.backends.static import StaticBackend
    from fourfold.families.load import has_weights
    from fourfold.modules import registry

    names = []
    if entries is not None and StaticBackend.fits(source):
        names.append("static")
    if all(part.name in registry for top in parts for part in top.all()) and has_weights(source):
        names.append("torch")
    here = replace(source, offline=True)
    return names + [kind for kind in KINDS if candidates(here, kind) or here.at(kind).file(DESCRIPTION_FILE)]
