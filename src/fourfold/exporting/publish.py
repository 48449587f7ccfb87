"""Where an exported graph goes: a local folder, or a repository on the hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fourfold.errors import InputError
from fourfold.modules._runtime import RuntimeModel
from fourfold.runtimes import KINDS
from fourfold.store.files import atomic_folder
from fourfold.store.hub import Repository


def graph_of(model: Any, kind: str, function: str) -> RuntimeModel:
    """Return the graph that stands for a model's transformer.

    Raises:
        InputError: If the model runs on something else.
    """
    found = getattr(model, "transformers_model", None)
    if not isinstance(found, RuntimeModel) or found.kind != kind:
        have = getattr(model, "backend", type(model).__name__)
        raise InputError(
            f'{function} needs a model loaded with backend="{kind}", got {have!r}: '
            f'{type(model).__name__}("model", backend="{kind}")'
        )
    return found


def write(
    make: Callable[[Path], None],
    model: Any,
    kind: str,
    suffix: str,
    place: str,
    config: Any,
    *,
    push_to_hub: bool,
    create_pr: bool,
    function: str,
) -> None:
    """Make a graph, and write it into a folder's ``onnx/`` or ``openvino/``, or upload it there.

    Args:
        make: Writes the graph to a path.
        model: The model, for the snippet in a pull request.
        kind: ``onnx`` or ``openvino``.
        suffix: Ends the file's name.
        place: The folder, or the repository.
        config: How the graph was made, for a pull request.
        push_to_hub: Whether to upload.
        create_pr: Whether to upload as a pull request.
        function: Name of the function that was called, for the commit.
    """
    name = KINDS[kind].named(suffix)
    if not push_to_hub:
        with atomic_folder(Path(place, kind)) as folder:
            make(folder / name)
            _name_weights(folder / name)
        return
    with tempfile.TemporaryDirectory(prefix="fourfold-export-") as scratch:
        folder = Path(scratch, kind)
        folder.mkdir()
        make(folder / name)
        _name_weights(folder / name)
        message = f"Add {kind} model {kind}/{name}"
        description = _description(model, place, kind, name, config, function) if create_pr else ""
        Repository(place, create_pr=create_pr).upload(Path(scratch), message, description)


def _name_weights(path: Path) -> None:
    """Let the one file of weights beside a new ONNX file have its name, by which whoever downloads it finds them."""
    others = [other for other in path.parent.iterdir() if other != path]
    if path.suffix != ".onnx" or len(others) != 1 or others[0].name == f"{path.name}_data":
        return
    import onnx_ir

    before = path.rename(path.with_name("before.onnx"))
    onnx_ir.save(onnx_ir.load(before), path, external_data=f"{path.name}_data")
    for other in (before, others[0]):
        other.unlink()


def _description(model: Any, place: str, kind: str, name: str, config: Any, function: str) -> str:
    cls = "SentenceTransformer" if model is None else type(model).__name__
    return f"""Hello!

*This pull request was made by [`{function}`].*

It adds `{kind}/{name}`, made with this configuration:

```
{config}
```

To try it before it is merged:

```python
from fourfold import {cls}

model = {cls}(
    "{place}",
    revision="refs/pr/2",
    backend="{kind}",
    model_kwargs={{"file_name": "{kind}/{name}"}},
)
```
"""
