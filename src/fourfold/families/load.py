"""``fourfold.load``: the encoder of a folder over whatever backend the folder and the machine allow."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from fourfold.backends.static import StaticBackend
from fourfold.errors import InputError, did_you_mean, installed, require
from fourfold.families._dense_encoder import DenseEncoder, StaticDenseEncoder, TorchDenseEncoder
from fourfold.runtimes import KINDS
from fourfold.runtimes.whole import Wholes
from fourfold.store.choices import recall
from fourfold.store.manifest import MODULES_FILE, architectures, read_model_type, read_modules
from fourfold.store.source import Source, locate
from fourfold.store.weights import holds_weights

if TYPE_CHECKING:
    from fourfold.families._pair_scorer import PairScorer
    from fourfold.families._sparse_encoder import TermsEncoder

# What a model can be told that is nothing of torch's.
_SETTINGS = ("prompts", "default_prompt_name", "similarity_fn_name")
_DENSE_OPTIONS = (*_SETTINGS, "truncate_dim")
_SPARSE_OPTIONS = (*_SETTINGS, "max_active_dims")
# The class of each family, and where a hub name without an organisation is looked for.
FAMILIES = {
    "dense": ("SentenceTransformer", "sentence-transformers"),
    "sparse": ("SparseEncoder", "sparse-encoder"),
    "cross": ("CrossEncoder", "cross-encoder"),
}
BACKENDS = ("auto", "static", "torch", *KINDS)
BUILTIN = Path(__file__).parent.parent / "builtin" / "dense"


@overload
def load(name_or_path: None = ..., **options: Any) -> DenseEncoder: ...
@overload
def load(name_or_path: str | os.PathLike[str], **options: Any) -> Any: ...  # the folder tells which it is
def load(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    backend: str = "auto",
    family: str | None = None,
    revision: str | None = None,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    local_files_only: bool = False,
    **options: Any,
) -> DenseEncoder | TermsEncoder | PairScorer:
    """Return an encoder, numpy in and out: of vectors, of sparse rows, or of scores of pairs, as the folder is.

    Args:
        name_or_path: A folder or hub name; None is the small model that comes with fourfold.
        backend: ``static`` (numpy, for static embeddings and for sparse models whose queries are looked up), ``torch``,
            ``onnx`` or ``openvino``, or ``auto``: static where the folder allows, then what ``fourfold tune`` has
            found to be fastest here, then torch, and a whole graph where there are no weights for torch, or no torch.
            Folders of ``fourfold export --whole`` need neither torch nor transformers.
        family: ``dense``, ``sparse`` or ``cross``, to load the model as such, and to look for a bare hub name where
            such models are; None takes the folder's own, and dense for a name.
        revision: Branch, tag or commit of the hub.
        token: Hub token.
        cache_folder: Folder for downloads.
        local_files_only: Never use the network.
        **options: Further arguments of the family's class: ``prompts``, ``default_prompt_name``,
            ``similarity_fn_name``, and ``truncate_dim`` or ``max_active_dims``, for any backend, all others for torch
            alone.

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
    if family is not None and family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise InputError(f"family must be one of {known}; got {family!r}.{did_you_mean(family, FAMILIES)}")
    organisation = FAMILIES[family or "dense"][1]
    name = str(BUILTIN) if name_or_path is None else locate(str(name_or_path), organisation)
    source = Source(name, revision, token, cache_folder, local_files_only).pinned()
    family = family or family_of(source)
    if name_or_path is not None:
        encoder = _on_graphs(family, source, backend, options)
        if encoder is not None:
            return encoder
    if backend in KINDS:
        options["backend"] = backend
    if family == "cross":
        return _cross(source, backend, options)
    return (_sparse if family == "sparse" else _dense)(source, backend, options)


def family_class(name: str, family: str | None = None) -> Any:
    """Return the class, on torch, of a folder or hub name.

    Args:
        name: Folder or hub name.
        family: ``dense``, ``sparse`` or ``cross``; None is what the folder says.
    """
    import fourfold

    organisation = FAMILIES[family or "dense"][1]
    chosen = family or family_of(Source(locate(name, organisation)).pinned())
    return getattr(fourfold, FAMILIES[chosen][0])


def _on_graphs(family: str, source: Source, backend: str, options: dict[str, Any]) -> Any:
    """Return the encoder over graphs, if one is asked for, has been chosen by ``fourfold tune``, or is all there is.

    A choice of torch with other options is put into ``options``.
    """
    if backend == "auto":
        choice = None if {"model_kwargs", "dtype", "device"} & options.keys() else recall(source)
        if choice is not None and choice.backend in KINDS and installed(KINDS[choice.backend].package):
            from fourfold.families._graphs import tuned_encoder

            return tuned_encoder(family, source, choice, options)
        if choice is not None and choice.backend == "torch":
            options.update(choice.options)
        if choice is not None or (installed("torch") and has_weights(source)):
            return None
        kinds = [name for name, kind in KINDS.items() if installed(kind.package)]
    else:
        kinds = [backend] if backend in KINDS else []
    for kind in kinds:
        wholes = Wholes.read(source, kind)
        if wholes is not None:
            from fourfold.families._graphs import graph_encoder

            return graph_encoder(family, source, wholes, options)
    found = (_published(family, source, kind, options) for kind in kinds)
    return next((encoder for encoder in found if encoder is not None), None)


def _published(family: str, source: Source, kind: str, options: dict[str, Any]) -> Any:
    """Return the encoder over a published graph, if what follows it needs no torch; else None."""
    from fourfold.backends._tail import published
    from fourfold.families._graphs import graph_encoder

    known = {"dense": _DENSE_OPTIONS, "sparse": _SPARSE_OPTIONS, "cross": _SETTINGS[:2]}[family]
    runtime = options.get("model_kwargs") or {}
    if set(options) - {*known, "model_kwargs"} or {"export", "subfolder"} & runtime.keys():
        return None
    found = published(source, kind, runtime.get("file_name"))
    if found is None or found[0].model_type != FAMILIES[family][0]:
        return None
    runtime = {name: value for name, value in runtime.items() if name != "file_name"}
    return graph_encoder(family, source, found[0], {**options, "model_kwargs": runtime}, found[1])


def has_weights(source: Source) -> bool:
    """Whether each checkpoint of a folder has weights for torch.

    That is taken for granted of repositories on the hub, and of folders without graphs: ``fourfold export`` alone
    leaves the settings of transformers without their weights.
    """
    if not source.is_local or all(source.at(kind).folder() is None for kind in KINDS):
        return True
    places = [source, *(source.at(entry.path) for entry in read_modules(source) or [] if entry.path)]
    routes = ((place, place.object("router_config.json").get("types")) for place in places)
    places += [place.at(name) for place, types in routes if isinstance(types, dict) for name in types]
    return all(holds_weights(place) for place in places if "model_type" in place.object("config.json"))


def family_of(source: Source) -> str:
    """Return the family that a folder was saved by; a checkpoint that classifies is a cross encoder's."""
    saved = read_model_type(source)
    if saved == "SentenceTransformer" and source.file(MODULES_FILE) is None:
        first = architectures(source.object("config.json").get("architectures"))[:1]
        return "cross" if "".join(first).endswith("ForSequenceClassification") else "dense"
    return next((family for family, (model_type, _) in FAMILIES.items() if model_type == saved), "dense")


def _cross(source: Source, backend: str, options: dict[str, Any]) -> PairScorer:
    if backend == "static":
        raise InputError(f"the static backend cannot run {source.name}, a cross encoder; leave backend out")
    require("torch", "torch", f"the model {source.name}")
    from fourfold.families._pair_scorer import PairScorer

    return PairScorer(source, **options)


def _dense(source: Source, backend: str, options: dict[str, Any]) -> DenseEncoder:
    if _is_static(backend, options, _DENSE_OPTIONS, lambda: StaticBackend.fits(source)):
        return StaticDenseEncoder(source, **options)
    require("torch", "torch", f"the model {source.name}")
    return TorchDenseEncoder(source, **options)


def _sparse(source: Source, backend: str, options: dict[str, Any]) -> TermsEncoder:
    # Imported here, for the built-in model is to be ready soon.
    from fourfold.backends.static_sparse import SparseStaticBackend
    from fourfold.families._sparse_encoder import StaticTermsEncoder, TorchTermsEncoder

    if _is_static(backend, options, _SPARSE_OPTIONS, lambda: SparseStaticBackend.fits(source)):
        encoder = StaticTermsEncoder(source, **options)
        # What torch would not give alike is left to torch, unless numpy is asked for.
        if backend == "static" or not encoder.changed:
            return encoder
    require("torch", "torch", f"the model {source.name}")
    return TorchTermsEncoder(source, **options)


def _is_static(backend: str, options: dict[str, Any], own: Collection[str], fits: Callable[[], bool]) -> bool:
    """Whether numpy is asked for, or left open and able to run the model with such options."""
    others = [option for option in options if option not in own]
    if backend == "static" and others:
        raise InputError(f"the static backend takes no {', '.join(others)}")
    return backend == "static" or (backend == "auto" and not others and fits())
