"""``fourfold.load``: the encoder of a folder over whatever backend the folder and the machine allow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fourfold.backends.static import StaticBackend
from fourfold.errors import InputError, did_you_mean, require
from fourfold.families._dense_encoder import DenseEncoder, StaticDenseEncoder, TorchDenseEncoder
from fourfold.store.source import Source, locate

# What a model can be told that is nothing of torch's.
_STATIC_OPTIONS = ("prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim")
BACKENDS = ("auto", "static", "torch")
BUILTIN = Path(__file__).parent.parent / "builtin" / "dense"


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    backend: str = "auto",
    revision: str | None = None,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    local_files_only: bool = False,
    **options: Any,
) -> DenseEncoder:
    """Return an encoder, numpy in and out.

    Args:
        name_or_path: A folder or hub name; None is the small model that comes with fourfold.
        backend: ``static`` (numpy alone, for static embeddings), ``torch``, or ``auto``: static where the folder
            allows.
        revision: Branch, tag or commit of the hub.
        token: Hub token.
        cache_folder: Folder for downloads.
        local_files_only: Never use the network.
        **options: Further arguments of ``SentenceTransformer``: ``prompts``, ``default_prompt_name``,
            ``similarity_fn_name`` and ``truncate_dim`` for any backend, all others for torch alone.

    Raises:
        InputError: If the backend is unknown or cannot run the model.
        MissingExtraError: If the model needs a package that is not installed.

    >>> encoder = load()
    >>> encoder.encode(["a text", "another text"]).shape[0]
    2
    """
    if backend not in BACKENDS:
        raise InputError(
            f"backend must be one of {', '.join(BACKENDS)}; got {backend!r}.{did_you_mean(backend, BACKENDS)}"
        )
    name = str(BUILTIN) if name_or_path is None else locate(str(name_or_path), "sentence-transformers")
    source = Source(name, revision, token, cache_folder, local_files_only).pinned()
    others = [option for option in options if option not in _STATIC_OPTIONS]
    if backend == "static" or (backend == "auto" and not others and StaticBackend.fits(source)):
        if others:
            raise InputError(f"the static backend takes no {', '.join(others)}")
        return StaticDenseEncoder(source, **options)
    require("torch", "torch", f"the model {name}")
    return TorchDenseEncoder(source, **options)
