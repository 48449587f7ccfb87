"""Classes and functions found by their dotted names, in the older library's words."""

from __future__ import annotations

import importlib
from typing import Any

from fourfold.compat.paths import OLD


def import_from_string(dotted_path: str) -> Any:
    """Return the class or function at a dotted path.

    Paths of the older library, of any generation, give fourfold's, without a warning.

    Raises:
        ImportError: If there is no dot, no such module, or no such name in it.

    >>> import_from_string("sentence_transformers.models.Pooling").__module__
    'fourfold.modules.pooling'
    """
    module, _, name = dotted_path.rpartition(".")
    if not module:
        raise ImportError(f"{dotted_path!r} is no dotted path: give module.name, such as 'torch.nn.Tanh'")
    top, _, rest = module.partition(".")
    module = ".".join(filter(None, ["fourfold" if top == OLD else top, rest]))
    found = importlib.import_module(module)
    try:
        return getattr(found, name)
    except AttributeError:
        raise ImportError(f"module {module!r} has no {name!r}") from None


def import_module_class(
    class_ref: str,
    model_name_or_path: str | None = None,
    *,
    trust_remote_code: bool = False,
    revision: str | None = None,
    code_revision: str | None = None,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    local_files_only: bool = False,
) -> Any:
    """Return the class of a module that a saved model names.

    Args:
        class_ref: Dotted path, as in ``modules.json``.
        model_name_or_path: The model's folder or hub name; without one, the path is simply imported.
        trust_remote_code: Whether code outside this library may be imported and run.
        revision: Branch, tag or commit of the model.
        code_revision: Branch, tag or commit of the code, if another.
        token: Hub token.
        cache_folder: Folder for downloads.
        local_files_only: Never use the network.

    Raises:
        FolderError: A ``ValueError``, if it is somebody else's class and ``trust_remote_code`` is not given.
        ImportError: If there is no such class.
    """
    if model_name_or_path is None or class_ref.startswith((f"{OLD}.", "fourfold.")):
        return import_from_string(class_ref)
    from fourfold.families._loading import LoadOptions, module_class
    from fourfold.store.source import Source

    source = Source(model_name_or_path, revision, token, cache_folder, local_files_only)
    model_kwargs = {} if code_revision is None else {"code_revision": code_revision}
    return module_class(class_ref, source, LoadOptions(trust_remote_code, model_kwargs))
