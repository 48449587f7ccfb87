"""Run a script or a module under the older library's name: ``python -m fourfold.compat script.py [arguments]``."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from fourfold.compat.alias import SITE, install_alias

USAGE = """\
usage: python -m fourfold.compat SCRIPT [ARGUMENTS]
       python -m fourfold.compat -m MODULE [ARGUMENTS]
       python -m fourfold.compat --path

Runs an unchanged script (a file, or a folder or zip file with a __main__.py), or a module as python -m does, in which
`import sentence_transformers` gives fourfold; so it does in the processes that it starts. --path prints a folder that
does the same from PYTHONPATH, for programs that start Python themselves.
"""


def main(arguments: list[str]) -> None:
    """Run what the command line names, in this process, as the main program."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--path":
        sys.stdout.write(f"{SITE}\n")
        return
    as_module = arguments[0] == "-m"
    if as_module and len(arguments) == 1:
        sys.exit(f"fourfold.compat: -m needs a module\n{USAGE}")
    target, *rest = arguments[1:] if as_module else arguments
    if not as_module and target.startswith("-"):
        sys.exit(f"fourfold.compat: unknown option {target}\n{USAGE}")
    if not as_module and not Path(target).exists():
        sys.exit(f"fourfold.compat: can't open file {target!r}: there is no such file")
    install_alias()
    _teach_children()
    sys.argv[:] = [target, *rest]
    if as_module:
        runpy.run_module(target, run_name="__main__", alter_sys=True)
        return
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        # Python put the working folder here, for -m; a script finds its neighbours instead.
        sys.path[0] = str(Path(target).resolve().parent)
    runpy.run_path(target, run_name="__main__")


def _teach_children() -> None:
    """Let Pythons that this one starts find the old name too: by their environment, or by the path they are handed."""
    site = str(SITE)
    sys.path.insert(1, site)
    others = os.environ.get("PYTHONPATH", "")
    if site not in others.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [site, others]))


if __name__ == "__main__":
    main(sys.argv[1:])
