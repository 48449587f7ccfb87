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
from pathlib import Path
from typing import Any, Literal, NoReturn, Union

from fourfold.errors import InputError, did_you_mean


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


def check_png(file: Path) -> None:
    """Raise :class:`~fourfold.errors.InputError` unless a picture's file is named as one."""
    if file.suffix.lower() != ".png":
        raise InputError(f"--png must name a .png file, got {str(file)!r}")


class _Parser(argparse.ArgumentParser):
    """An argparse parser with fourfold's error line."""

    def error(self, message: str) -> NoReturn:
        """Print one line that says what is wrong and where to read on, and exit with 2."""
        self.exit(2, f"fourfold: error: {message}\nTry '{self.prog} --help'.\n")


def run(function: Callable[..., Any], arguments: Sequence[str], prog: str) -> Any:
    """Call ``function`` with what the command line says.

    Options may stand between positional arguments, as in ``search QUESTION -k 3 FOLDER``. argparse's own way to allow
    that trips over ``--`` and differs between versions of Python, so argparse reads the options and this the rest.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    before, after = list(arguments[:end]), list(arguments[end + 1 :])
    if "-h" in before or "--help" in before:
        parser_of(function, prog).print_help()
        raise SystemExit(0)
    parser = parser_of(function, prog, positional=False)
    values, rest = parser.parse_known_args(before)
    _refuse_strangers(parser, rest)
    arguments_found = _positional(parser, function, [*rest, *after])
    function(*arguments_found, **vars(values))


def _positional(parser: argparse.ArgumentParser, function: Callable[..., Any], words: list[str]) -> list[Any]:
    """Return the values of the positional arguments; a list, which may only be the last, takes all that remain."""
    hints = typing.get_type_hints(function, include_extras=True)
    values: list[Any] = []
    for parameter in inspect.signature(function).parameters.values():
        hint, info = _split(hints[parameter.name])
        if _is_option(info, parameter.default):
            continue
        kind, many = _plain(hint)
        convert = _converter(kind, info or _Info())
        taken, words = (words, []) if many else (words[:1], words[1:])
        if not taken and parameter.default is parameter.empty:
            parser.error(f"{parameter.name.upper()} is missing")
        try:
            found = [convert(word) for word in taken]
        except argparse.ArgumentTypeError as error:
            parser.error(f"argument {parameter.name.upper()}: {error}")
        values.append(parameter.default if not found else found if many else found[0])
    if words:
        parser.error(f"{words[0]!r} is one argument too many; put a text of several words in quotes")
    return values


def parser_of(function: Callable[..., Any], prog: str, *, positional: bool = True) -> argparse.ArgumentParser:
    """Return a parser of the options that ``function`` describes, with or without its positional arguments."""
    summary, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n")
    parser = _Parser(
        prog=prog,
        description=summary,
        epilog=rest.partition("\nArgs:\n")[0].strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=positional,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint, info = _split(hints[name])
        if _is_option(info, parameter.default):
            _add_option(parser, name, hint, info or _Info(), parameter.default)
        elif positional:
            _add_argument(parser, name, hint, info or _Info(), parameter.default)
    return parser


def _refuse_strangers(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    for argument in arguments:
        # As argparse sees it: a question that starts with a dash is no option if it has more than one word.
        if len(argument) > 1 and argument.startswith("-") and " " not in argument and not argument[1].isdigit():
            known = [name for name in parser._option_string_actions if name.startswith("--")]
            parser.error(f"unknown option {argument}.{did_you_mean(argument.split('=')[0], known)}")


def _is_option(info: Any, default: Any) -> bool:
    return isinstance(info, _OptionInfo) or (info is None and default is not inspect.Parameter.empty)


def _split(hint: Any) -> tuple[Any, Any]:
    """Return the type and, where it is annotated, what describes it."""
    if typing.get_origin(hint) is Union:  # Python 3.10 wraps the annotation of a parameter whose default is None
        hint = next((part for part in typing.get_args(hint) if typing.get_origin(part) is typing.Annotated), hint)
    if typing.get_origin(hint) is typing.Annotated:
        return typing.get_args(hint)[0], typing.get_args(hint)[1]
    return hint, None


def _add_argument(parser: argparse.ArgumentParser, name: str, hint: Any, info: Any, default: Any) -> None:
    kind, many = _plain(hint)
    required = default is inspect.Parameter.empty
    nargs = "+" if many and required else "*" if many else None if required else "?"
    parser.add_argument(
        name,
        nargs=nargs,
        default=None if required else default,
        metavar=_metavar(kind, info) or name.upper(),
        help=_help(info),
    )


def _add_option(parser: argparse.ArgumentParser, name: str, hint: Any, info: Any, default: Any) -> None:
    kind, many = _plain(hint)
    required = default is inspect.Parameter.empty
    settings: dict[str, Any] = {"dest": name, "default": None if required else default, "required": required}
    if kind is bool:
        settings["action"] = "store_true" if default is False else argparse.BooleanOptionalAction
    else:
        settings.update(type=_converter(kind, info), metavar=_metavar(kind, info), action="append" if many else "store")
    names = info.param_decls or (f"--{name.replace('_', '-')}",)
    parser.add_argument(*names, help=_help(info, default), **settings)


def _plain(hint: Any) -> tuple[Any, bool]:
    """Return the type of one value and whether a list of them is meant: ``list[Path] | None`` is (Path, True)."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is list:
        return typing.get_args(hint)[0], True
    return hint, False


def _converter(kind: Any, info: Any) -> Callable[[str], Any]:
    """Return a function from a word to a value, which says in one line why a word is none."""
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)

        def choose(word: str) -> Any:
            if word in choices:
                return word
            known = ", ".join(choices)
            raise argparse.ArgumentTypeError(f"must be one of {known}; got {word!r}.{did_you_mean(word, choices)}")

        return choose

    def convert(word: str) -> Any:
        try:
            value = kind(word)
        except ValueError:
            named = {int: "a whole number", float: "a number"}.get(kind, kind.__name__)
            raise argparse.ArgumentTypeError(f"must be {named}, got {word!r}") from None
        if info.min is not None and value < info.min:
            raise argparse.ArgumentTypeError(f"must be at least {info.min}, got {word}")
        if info.max is not None and value > info.max:
            raise argparse.ArgumentTypeError(f"must be at most {info.max}, got {word}")
        return value

    return convert


def _metavar(kind: Any, info: Any) -> str | None:
    choices = "|".join(typing.get_args(kind)) if typing.get_origin(kind) is Literal else None
    return info.metavar or choices


def _help(info: Any, default: Any = None) -> str:
    text = info.help or ""
    if default not in (inspect.Parameter.empty, None, False, True, ""):
        text = f"{text} [default: {default}]".strip()
    return text.replace("%", "%%")
