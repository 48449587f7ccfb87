"""A signature becomes a command line."""

from pathlib import Path
from typing import Annotated, Literal

import pytest

from fourfold.cli._options import Argument, Option, run

calls = []


def command(
    question: Annotated[str, Argument(help="what to ask, 100% free")],
    places: Annotated[list[Path] | None, Argument()] = None,
    *,
    top_k: Annotated[int, Option("--top-k", "-k", min=1, max=9, help="how many")] = 5,
    mode: Annotated[Literal["fast", "slow"], Option()] = "fast",
    tag: Annotated[list[str] | None, Option()] = None,
    loud: Annotated[bool, Option(help="shout")] = False,
    colour: Annotated[bool, Option()] = True,
) -> None:
    """Ask.

    More, with a % sign.

    Args:
        question: not for the terminal
    """
    calls.append((question, places, top_k, mode, tag, loud, colour))


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()


def call(*arguments):
    run(command, arguments, "fourfold command")
    return calls[-1]


def test_defaults():
    assert call("why") == ("why", None, 5, "fast", None, False, True)


def test_values_are_converted():
    got = call("why", "a", "b", "-k", "3", "--mode", "slow", "--tag", "x", "--tag", "y", "--loud", "--no-colour")
    assert got == ("why", [Path("a"), Path("b")], 3, "slow", ["x", "y"], True, False)


def test_options_may_stand_between_positional_arguments():
    assert call("why", "-k", "2", "a")[:3] == ("why", [Path("a")], 2)


def test_what_follows_two_dashes_is_no_option():
    assert call("--", "-k")[0] == "-k"
    assert call("-k", "2", "why", "--", "-a", "--tag")[:3] == ("why", [Path("-a"), Path("--tag")], 2)


def test_a_question_may_start_with_a_dash():
    assert call("-x, what does this flag do")[0] == "-x, what does this flag do"
    assert call("-40")[0] == "-40"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["why", "-k", "0"], "argument --top-k/-k: must be at least 1, got 0"),
        (["why", "-k", "10"], "argument --top-k/-k: must be at most 9, got 10"),
        (["why", "-k", "some"], "argument --top-k/-k: must be a whole number, got 'some'"),
        (["why", "--mode", "medium"], "argument --mode: must be one of fast, slow; got 'medium'."),
        ([], "QUESTION is missing"),
        (["why", "--top"], "unknown option --top."),
    ],
)
def test_a_wrong_value_names_the_option_and_exits_with_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as left:
        call(*arguments)
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fourfold: error: {message}")
    assert "Try 'fourfold command --help'." in error


def test_a_word_too_many_is_refused(capsys):
    def single(text: str) -> None:
        """Take one text."""

    with pytest.raises(SystemExit):
        run(single, ["two", "words"], "fourfold single")
    assert "'words' is one argument too many; put a text of several words in quotes" in capsys.readouterr().err


def test_help_shows_docstring_defaults_and_percent_signs_but_not_args(capsys):
    with pytest.raises(SystemExit):
        call("--help")
    shown = capsys.readouterr().out
    for part in ("Ask.", "More, with a % sign.", "how many [default: 5]", "100% free", "fast|slow"):
        assert part in shown
    assert "not for the terminal" not in shown
