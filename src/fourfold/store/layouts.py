"""The module type strings of every generation of model folders, as one table.

A saved folder names its parts by dotted paths into sentence-transformers. A path resolves here to the name of one of
our parts; the path itself is never imported.
"""

from __future__ import annotations

_ROOT = "sentence_transformers"
_DENSE = f"{_ROOT}.sentence_transformer.modules"

# What a saved folder carries for each class, so that sentence-transformers 6.2 reads it.
WRITTEN = {
    "Transformer": f"{_ROOT}.base.modules.transformer.Transformer",
    "Dense": f"{_ROOT}.base.modules.dense.Dense",
    "Normalize": f"{_ROOT}.base.modules.normalize.Normalize",
    "Pooling": f"{_DENSE}.pooling.Pooling",
    "StaticEmbedding": f"{_DENSE}.static_embedding.StaticEmbedding",
}

# Packages whose classes have been ours under the class's own name in some generation (1.x to 6.x).
_HOMES = (
    f"{_ROOT}.models",
    f"{_ROOT}.base.modules",
    f"{_ROOT}.sentence_transformer.modules",
    f"{_ROOT}.sparse_encoder.models",
    f"{_ROOT}.sparse_encoder.modules",
    f"{_ROOT}.cross_encoder.modules",
    f"{_ROOT}.multi_vector_encoder.modules",
    "fourfold.modules",
)


def is_library_type(type_string: str) -> bool:
    """Whether a type string names a part of this field's library, rather than somebody's own class."""
    return type_string.startswith((f"{_ROOT}.", "fourfold."))


def part_name(type_string: str) -> str | None:
    """Return the class name that a library type string stands for, or None if no generation wrote such a string.

    >>> part_name("sentence_transformers.models.Pooling")
    'Pooling'
    >>> part_name("sentence_transformers.sentence_transformer.modules.pooling.Pooling")
    'Pooling'
    >>> part_name("sentence_transformers.util.http_get")
    """
    home, _, name = type_string.rpartition(".")
    parent = home.rpartition(".")[0]
    if home in _HOMES or parent in _HOMES:
        return name
    return None


def is_remote(cls: type) -> bool:
    """Whether a class comes from the code of a model folder, which transformers imports under a package of its own."""
    return cls.__module__.startswith("transformers_modules.")


def type_string(cls: type) -> str:
    """Return the type string that a saved folder carries for a module class."""
    if cls.__module__.startswith("fourfold.modules."):
        return WRITTEN[cls.__name__]
    home = cls.__module__.rpartition(".")[2] if is_remote(cls) else cls.__module__
    return f"{home}.{cls.__name__}"
