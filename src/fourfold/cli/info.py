"""``fourfold info``: what a model folder is, read without running it."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import Annotated, Any

from fourfold.cli import _folder
from fourfold.cli._options import Argument, Option


def info(
    model: Annotated[str | None, Argument(help="model folder or hub name; default: the built-in model")] = None,
    *,
    as_json: Annotated[bool, Option("--json", help="print JSON")] = False,
) -> None:
    """Say what a model folder is and what can run it.

    Reads settings and the headers of weights; loads nothing and needs no torch. Weights on the hub that are not on this
    machine yet are not downloaded for it.
    """
    facts = _folder.describe(model)
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(facts))


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = [facts["model"]]

    def add(label: str, value: Any) -> None:
        if value not in (None, "", [], {}):
            lines.append(f"  {label:<12}{value}")

    add("family", facts["family"])
    for position, module in enumerate(facts["modules"]):
        add("modules" if position == 0 else "", module["name"] + _settings(module["settings"]))
        for route, inner in module.get("routes", {}).items():
            default = "  (default)" if route == module["default_route"] else ""
            names = ", ".join(each["name"] + _settings(each["settings"]) for each in inner)
            add("", f"  {route}: {names or 'nothing'}{default}")
    add("dimension", facts["dimension"])
    add("labels", facts["labels"])
    add("active", f"at most {facts['max_active_dims']} a text" if facts["max_active_dims"] else None)
    add("max length", f"{facts['max_length']} tokens" if facts["max_length"] else "no limit")
    add("similarity", facts["similarity"])
    weights = facts["weights"]
    if weights["parameters"]:
        dtypes = ", ".join(weights["dtypes"])
        add("weights", f"{weights['parameters']:,} parameters, {dtypes}, {_size(weights['bytes'])}")
    elif weights["bytes"]:
        add("weights", f"{_size(weights['bytes'])}, not safetensors: parameters unknown")
    else:
        add("weights", "not on this machine")
    # A model saved without prompts of its own names two empty ones.
    prompts = {
        name: prompt for name, prompt in facts["prompts"].items() if prompt or name == facts["default_prompt_name"]
    }
    for position, (name, prompt) in enumerate(prompts.items()):
        default = "  (default)" if name == facts["default_prompt_name"] else ""
        add("prompts" if position == 0 else "", f"{name}: {prompt!r}{default}")
    backends = [_backend(name) for name in facts["backends"]]
    add("runs on", ", ".join(backends) or "nothing here: it holds modules that fourfold does not know")
    return lines


def _backend(name: str) -> str:
    if name == "torch" and importlib.util.find_spec("torch") is None:
        return 'torch (pip install "fourfold[torch]")'
    return name


def _settings(settings: dict[str, Any]) -> str:
    return f"({', '.join(f'{key}={value}' for key, value in settings.items())})" if settings else ""


def _size(count: int) -> str:
    value, unit = (count / 1e3, "kB") if count < 1e6 else (count / 1e6, "MB") if count < 1e9 else (count / 1e9, "GB")
    return f"{value:.1f} {unit}"
