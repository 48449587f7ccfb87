"""The type strings of every generation of model folders, as one table.

A saved folder names its parts by dotted paths into sentence-transformers. A path resolves here to the name of one of
our parts; the path itself is never imported. Names only: whether a part exists is the registry's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_ROOT = "sentence_transformers"
_OURS = "fourfold.modules"
_BASE = f"{_ROOT}.base.modules"
_DENSE = f"{_ROOT}.sentence_transformer.modules"
_SPARSE = f"{_ROOT}.sparse_encoder.modules"
_CROSS = f"{_ROOT}.cross_encoder.modules"
_MULTI = f"{_ROOT}.multi_vector_encoder.modules"


def _files(home: str, files: Mapping[str, str]) -> dict[str, str]:
    """Return the dotted path of each class, given the files of a package and the classes that each defines."""
    return {name: f"{home}.{file}.{name}" for file, names in files.items() for name in names.split()}


_BASE_FILES = {"dense": "Dense", "normalize": "Normalize", "router": "Router", "transformer": "Transformer"}
_DENSE_FILES = {
    "bow": "BoW", "clip_model": "CLIPModel", "cnn": "CNN", "dropout": "Dropout", "layer_norm": "LayerNorm",
    "lstm": "LSTM", "pooling": "Pooling", "static_embedding": "StaticEmbedding",
    "weighted_layer_pooling": "WeightedLayerPooling", "word_embeddings": "WordEmbeddings",
    "word_weights": "WordWeights",
}  # fmt: skip
_SPARSE_FILES = {
    "mlm_transformer": "MLMTransformer", "splade_pooling": "SpladePooling",
    "sparse_auto_encoder": "SparseAutoEncoder", "sparse_static_embedding": "SparseStaticEmbedding",
}  # fmt: skip
_CROSS_FILES = {"logit_score": "LogitScore"}
_MULTI_FILES = {"multi_vector_mask": "MultiVectorMask", "token_pooling": "HierarchicalTokenPooling LambdaTokenPooling"}
_TOKENIZER_FILES = {
    "phrase": "PhraseTokenizer", "whitespace": "WhitespaceTokenizer", "word": "TransformersTokenizerWrapper",
}  # fmt: skip

# What a saved folder carries for each class, so that sentence-transformers 6.2 reads it.
WRITTEN = {
    **_files(_BASE, _BASE_FILES), **_files(_DENSE, _DENSE_FILES), **_files(_SPARSE, _SPARSE_FILES),
    **_files(_CROSS, _CROSS_FILES), **_files(_MULTI, _MULTI_FILES),
}  # fmt: skip
WRITTEN_TOKENIZERS = _files(f"{_DENSE}.tokenizer", _TOKENIZER_FILES)

# Names that a class has had, beside its present one.
_RENAMED = {"Asym": "Router"}

_SHARED = ("Transformer", "Dense", "Router", "Asym")
_OF_DENSE = (*_SHARED, "Normalize", *_files("", _DENSE_FILES))


def _forms(home: str, names: Iterable[str], *, twice: bool = False) -> dict[str, str]:
    """Return the strings ``home.N``, and ``home.N.N`` of the time when each class had a file of its own name."""
    found = {f"{home}.{name}": name for name in names}
    return found | {f"{home}.{name}.{name}": name for name in names if twice}


def _paths(home: str, files: Mapping[str, str]) -> dict[str, str]:
    return {path: name for name, path in _files(home, files).items()}


# Every string that some generation wrote, or could have written, for a class: 1.x to 5.3, 5.4 to 5.x, 6.x.
_PARTS: dict[str, str] = {
    **_forms(f"{_ROOT}.models", _OF_DENSE, twice=True),
    **_paths(f"{_ROOT}.models", _DENSE_FILES),
    **_forms(f"{_ROOT}.sparse_encoder.models", _SHARED),
    **_forms(f"{_ROOT}.sparse_encoder.models", _files("", _SPARSE_FILES), twice=True),
    **_paths(f"{_ROOT}.sparse_encoder.models", _SPARSE_FILES),
    **_forms(_DENSE, _OF_DENSE),
    **_paths(_DENSE, {**_DENSE_FILES, "normalize": "Normalize"}),
    **_forms(_SPARSE, (*_SHARED, *_files("", _SPARSE_FILES))),
    **_paths(_SPARSE, _SPARSE_FILES),
    **_forms(_CROSS, (*_SHARED, *_files("", _CROSS_FILES))),
    **_paths(_CROSS, _CROSS_FILES),
    **_forms(_MULTI, _files("", _MULTI_FILES)),
    **_paths(_MULTI, _MULTI_FILES),
    **_forms(_BASE, _files("", _BASE_FILES)),
    **_paths(_BASE, _BASE_FILES | {"router": "Router Asym"}),
}

_TOKENIZERS: dict[str, str] = {
    **_forms(f"{_ROOT}.models.tokenizer", WRITTEN_TOKENIZERS),
    **_paths(f"{_ROOT}.models.tokenizer", _TOKENIZER_FILES),
    **_forms(f"{_ROOT}.models.tokenizer", ("WhitespaceTokenizer", "PhraseTokenizer"), twice=True),
    f"{_ROOT}.models.tokenizer.WordTokenizer.TransformersTokenizerWrapper": "TransformersTokenizerWrapper",
    **_forms(f"{_DENSE}.tokenizer", WRITTEN_TOKENIZERS),
    **_paths(f"{_DENSE}.tokenizer", _TOKENIZER_FILES),
}


def is_library_type(type_string: str) -> bool:
    """Whether a type string names a part of this field's library, rather than somebody's own class."""
    return type_string.startswith((f"{_ROOT}.", "fourfold."))


def part_name(type_string: str) -> str | None:
    """Return the class name that a library type string stands for, or None if no generation wrote such a string.

    >>> part_name("sentence_transformers.models.Pooling")
    'Pooling'
    >>> part_name("sentence_transformers.models.Asym.Asym")
    'Router'
    >>> part_name("sentence_transformers.util.http_get")
    """
    return _resolve(type_string, _PARTS, _OURS)


def tokenizer_name(type_string: str) -> str | None:
    """Return the class name that a ``tokenizer_class`` of ``wordembedding_config.json`` stands for, or None.

    >>> tokenizer_name("sentence_transformers.models.tokenizer.PhraseTokenizer.PhraseTokenizer")
    'PhraseTokenizer'
    """
    return _resolve(type_string, _TOKENIZERS, f"{_OURS}.tokenizer")


def _resolve(type_string: str, table: Mapping[str, str], ours: str) -> str | None:
    name = table.get(type_string)
    home, _, last = type_string.rpartition(".")
    if name is None and ours in (home, home.rpartition(".")[0]):
        name = last
    return None if name is None else _RENAMED.get(name, name)


def family_of(name: str) -> str:
    """Return the family that a class belongs to: ``dense``, ``sparse``, ``cross`` or ``multi_vector``.

    >>> family_of("SpladePooling")
    'sparse'
    """
    homes = {_SPARSE: "sparse", _CROSS: "cross", _MULTI: "multi_vector"}
    return next((family for home, family in homes.items() if WRITTEN.get(name, "").startswith(home)), "dense")


def is_remote(cls: type) -> bool:
    """Whether a class comes from the code of a model folder, which transformers imports under a package of its own."""
    return cls.__module__.startswith("transformers_modules.")


def type_string(cls: type) -> str:
    """Return the type string that a saved folder carries for a module class or a word tokenizer's class."""
    if cls.__module__.startswith(f"{_OURS}."):
        return (WRITTEN | WRITTEN_TOKENIZERS)[cls.__name__]
    home = cls.__module__.rpartition(".")[2] if is_remote(cls) else cls.__module__
    return f"{home}.{cls.__name__}"
