"""The command's frame: subcommands found and imported one at a time, errors as one line and an exit code."""

import subprocess
import sys
import types

import pytest

from fourfold import __version__, errors
from fourfold.cli import main as cli


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "fourfold.cli.main", *arguments], capture_output=True, text=True)


def test_help_lists_every_subcommand_with_its_first_docstring_line(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert set(cli.commands()) >= {"encode", "info", "similarity"}
    for name in cli.commands():
        assert f"\n  {name} " in shown
    assert "Turn a file of texts into a file of vectors." in shown


@pytest.mark.parametrize("arguments", [[], ["-h"], ["help"]])
def test_help_has_other_spellings(arguments, capsys):
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.startswith("Usage: fourfold COMMAND")


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fourfold {__version__}\n"


def test_every_subcommand_defines_a_function_of_its_name_and_explains_itself(capsys):
    for name in cli.commands():
        with pytest.raises(SystemExit) as left:
            cli.main([name, "--help"])
        assert left.value.code == 0
        assert f"usage: fourfold {name}" in capsys.readouterr().out


def test_an_unknown_command_exits_with_2_and_a_suggestion():
    done = run("encod")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("fourfold: error: unknown command 'encod'. Did you mean 'encode'?\n")


def test_an_unknown_option_exits_with_2_and_a_suggestion(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["encode", "x.txt", "-o", "x.npy", "--normalise"])
    assert left.value.code == 2
    assert "unknown option --normalise. Did you mean '--normalize'?" in capsys.readouterr().err


def everything_under(kind):
    return {kind}.union(*(everything_under(child) for child in kind.__subclasses__()))


@pytest.mark.parametrize("kind", sorted(everything_under(errors.FourfoldError), key=lambda kind: kind.__name__))
def test_every_error_of_ours_is_one_line_and_exit_code_2(kind, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_dispatch", raising(kind("the cause")))
    assert cli.main(["x"]) == 2
    assert capsys.readouterr().err == "fourfold: error: the cause\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (FileNotFoundError(2, "No such file or directory", "x.txt"), 2, "error: No such file or directory: x.txt"),
        (IsADirectoryError(21, "Is a directory", "x"), 2, "error: Is a directory: x"),
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: Permission denied: /x"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_machine_says_is_one_line_too(error, code, line, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_dispatch", raising(error))
    assert cli.main(["x"]) == code
    assert capsys.readouterr().err == f"fourfold: {line}\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(cli, "_dispatch", raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["x"])


def raising(error):
    def dispatch(arguments):
        raise error

    return dispatch


def test_only_the_asked_for_subcommand_is_imported():
    code = """
import sys
from fourfold.cli.main import main
try:
    main(["encode", "--help"])
except SystemExit:
    print(sorted(m for m in sys.modules if m.startswith("fourfold.cli.") and "._" not in m), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "['fourfold.cli.encode', 'fourfold.cli.main']\n"


def test_a_reader_that_has_gone_is_no_error():
    code = "from fourfold.cli import main; main._dispatch = lambda _: print('x' * 10_000_000); exit(main.main([]))"
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    writer.stdout.read(1)
    writer.stdout.close()
    assert writer.stderr.read() == b""
    writer.stderr.close()
    assert writer.wait() == cli.PIPE_CLOSED


def test_a_subcommand_is_a_file_and_its_underscores_are_dashes(tmp_path, monkeypatch, capsys):
    (tmp_path / "say_it.py").write_text('def say_it(word: str) -> None:\n    """Say a word.\n\n    Longer.\n    """\n')
    (tmp_path / "_helper.py").write_text("")
    monkeypatch.setattr(cli, "HERE", tmp_path)
    assert list(cli.commands()) == ["say-it"]
    cli.main(["--help"])
    assert "  say-it  Say a word.\n" in capsys.readouterr().out

    said = []
    module = types.ModuleType("fourfold.cli.say_it")

    def say_it(word: str) -> None:
        said.append(word)

    module.say_it = say_it
    monkeypatch.setitem(sys.modules, "fourfold.cli.say_it", module)
    assert cli.main(["say-it", "hello"]) == 0
    assert said == ["hello"]
