"""Turn a function's signature into a command line.

A subcommand is one function; its annotations say what it takes::

    def encode(file: Annotated[Path, Argument(help="...")], *, rows: Annotated[int, Option(min=1)] = 32) -> None: ...

This is typer's way to write a command, over argparse: building a typer command costs 100 ms, argparse 10, and a search
with the built-in model takes less than either.
"""

from __future__ import annotations

import argparse
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Union

from fourfold.errors import did_you_mean


@dataclass(frozen=True)
class _Info:
    param_decls: tuple[str, ...] = ()
    help: str | None = None
    metavar: str | None = None
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class _ArgumentInfo(_Info):
    """Marks a positional argument."""


@dataclass(frozen=True)
class _OptionInfo(_Info):
    """Marks a ``--name`` option."""


def Argument(help: str | None = None, *, metavar: str | None = None) -> Any:  # noqa: A002
    """Describe a positional argument inside ``Annotated``."""
    return _ArgumentInfo((), help, metavar)


def Option(
    *names: str,
    help: str | None = None,  # noqa: A002
    metavar: str | None = None,
    min: float | None = None,  # noqa: A002
    max: float | None = None,  # noqa: A002
) -> Any:
    """Describe an option inside ``Annotated``.

    Args:
        *names: Spellings such as ``"--output", "-o"``; by default ``--`` and the parameter's name.
        help: One line for ``--help``.
        metavar: What ``--help`` calls the value.
        min: Smallest number accepted.
        max: Largest number accepted.
    """
    return _OptionInfo(names, help, metavar, min, max)


class _Parser(argparse.ArgumentParser):
    """An argparse parser with fourfold's error line."""

    def error(self, message: str) -> NoReturn:
        """Print one line that says what is wrong and where to read on, and exit with 2."""
        if message.startswith("unrecognized arguments: "):
            stranger = message.removeprefix("unrecognized arguments: ").split()[0]
            known = [name for name in self._option_string_actions if name.startswith("--")]
            message = f"unknown option {stranger}.{did_you_mean(stranger.split('=')[0], known)}"
        self.exit(2, f"fourfold: error: {message}\nTry '{self.prog} --help'.\n")


def parser_of(function: Callable[..., Any], prog: str) -> argparse.ArgumentParser:
    """Return the parser that the signature and docstring of ``function`` describe."""
    summary, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n")
    parser = _Parser(
        prog=prog,
        description=summary,
        epilog=rest.partition("\nArgs:\n")[0].strip().replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        _add(parser, name, hints[name], parameter)
    return parser


def run(function: Callable[..., Any], arguments: Sequence[str], prog: str) -> Any:
    """Call ``function`` with what the command line says."""
    # Intermixed: options may stand between positional arguments, as in `search QUESTION -k 3 FOLDER`.
    values = vars(parser_of(function, prog).parse_intermixed_args(list(arguments)))
    positional = [n for n, p in inspect.signature(function).parameters.items() if p.kind is not p.KEYWORD_ONLY]
    return function(*[values.pop(name) for name in positional], **values)


def _add(parser: argparse.ArgumentParser, name: str, hint: Any, parameter: inspect.Parameter) -> None:
    info: Any = None
    if typing.get_origin(hint) is typing.Annotated:
        hint, info = typing.get_args(hint)[:2]
    kind, many = _plain(hint)
    required = parameter.default is parameter.empty
    is_option = isinstance(info, _OptionInfo) or (info is None and not required)
    info = info or _Info()
    settings: dict[str, Any] = {"help": _help(info, parameter.default, is_option)}
    if kind is not bool:
        settings.update(metavar=info.metavar, **_converter(kind, info))
    if not is_option:
        nargs = "+" if many and required else "*" if many else None if required else "?"
        settings["metavar"] = info.metavar or name.upper()
        # argparse takes a list of no values as the default only from None: [] would go through the converter.
        parser.add_argument(name, nargs=nargs, default=None if required else parameter.default, **settings)
        return
    names = info.param_decls or (f"--{name.replace('_', '-')}",)
    if kind is bool:
        settings["action"] = "store_true" if parameter.default is False else argparse.BooleanOptionalAction
    elif many:
        settings["action"] = "append"
    default = None if required else parameter.default
    parser.add_argument(*names, dest=name, default=default, required=required, **settings)


def _plain(hint: Any) -> tuple[Any, bool]:
    """Return the type of one value and whether a list of them is meant: ``list[Path] | None`` is (Path, True)."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is list:
        return typing.get_args(hint)[0], True
    return hint, False


def _converter(kind: Any, info: Any) -> dict[str, Any]:
    if typing.get_origin(kind) is Literal:
        return {"choices": typing.get_args(kind)}

    def convert(text: str) -> Any:
        value = kind(text)
        if info.min is not None and value < info.min:
            raise argparse.ArgumentTypeError(f"must be at least {info.min}, got {text}")
        if info.max is not None and value > info.max:
            raise argparse.ArgumentTypeError(f"must be at most {info.max}, got {text}")
        return value

    convert.__name__ = {int: "whole number", float: "number"}.get(kind, getattr(kind, "__name__", "value"))
    return {"type": convert}


def _help(info: Any, default: Any, is_option: bool) -> str:
    text = (info.help or "").replace("%", "%%")
    shown = is_option and default not in (inspect.Parameter.empty, None, False, True, "")
    return f"{text} [default: {str(default).replace('%', '%%')}]".strip() if shown else text
