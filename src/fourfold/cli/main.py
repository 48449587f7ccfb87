"""The ``fourfold`` command: finds the subcommand's file, imports only that one, and runs it.

A subcommand is a file of this folder with one function of the same name; adding one is adding a file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fourfold.cli._say import say
from fourfold.errors import FourfoldError, did_you_mean

HERE = Path(__file__).parent

# 2: what was asked for cannot be done as asked. 1: the machine failed (a full disk, a permission).
WRONG_REQUEST, MACHINE_FAILED, INTERRUPTED, PIPE_CLOSED = 2, 1, 130, 141
_WRONG_PATHS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)


def commands() -> dict[str, Path]:
    """Return the subcommands and their files, by name as typed."""
    files = (file for file in sorted(HERE.glob("*.py")) if file.stem != "main" and not file.stem.startswith("_"))
    return {file.stem.replace("_", "-"): file for file in files}


def exit_code(error: BaseException) -> int:
    """Return the exit code that stands for an error."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED
    if isinstance(error, OSError) and not isinstance(error, (FourfoldError, *_WRONG_PATHS)):
        return MACHINE_FAILED
    return WRONG_REQUEST


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; usage errors and ``--help`` leave through ``SystemExit``."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _dispatch(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (`| head`): nothing is wrong, and Python's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt as error:
        say("interrupted")
        return exit_code(error)
    except FourfoldError as error:
        say(f"error: {error}")
        return exit_code(error)
    except OSError as error:
        detail = f"{error.strerror}: {error.filename}" if error.strerror and error.filename else str(error)
        say(f"error: {detail}")
        return exit_code(error)
    return 0


def _dispatch(arguments: list[str]) -> None:
    name = arguments[0] if arguments else "--help"
    if name in ("--help", "-h", "help"):
        sys.stdout.write(_overview())
    elif name in ("--version", "-V"):
        from fourfold import __version__

        sys.stdout.write(f"fourfold {__version__}\n")
    elif name in commands():
        _run(name, arguments[1:])
    else:
        say(f"error: unknown command {name!r}.{did_you_mean(name, commands())}\nTry 'fourfold --help'.")
        raise SystemExit(WRONG_REQUEST)


def _run(name: str, arguments: list[str]) -> None:
    import importlib

    from fourfold.cli import _options

    stem = name.replace("-", "_")
    module = importlib.import_module(f"fourfold.cli.{stem}")
    _options.run(getattr(module, stem), arguments, f"fourfold {name}")


def _overview() -> str:
    rows = {name: _summary(file) for name, file in commands().items()}
    width = max(map(len, rows), default=0)
    lines = [f"  {name:<{width}}  {summary}" for name, summary in rows.items()]
    head = "Usage: fourfold COMMAND ...\n\nText encoders over one fast engine.\n\nCommands:\n"
    tail = "\n\n'fourfold COMMAND --help' shows what a command takes; 'fourfold --version' the version.\n"
    return head + "\n".join(lines) + tail


def _summary(file: Path) -> str:
    """Return the first line of a subcommand's docstring, read without importing the file."""
    import ast

    tree = ast.parse(file.read_bytes())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == file.stem]
    docstring = ast.get_docstring(functions[0] if functions else tree) or ""
    return docstring.partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
