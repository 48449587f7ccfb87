"""The package's own face: names, errors, version."""

import re
from pathlib import Path

import pytest

import fourfold
from fourfold import errors

ROOT = Path(__file__).parents[2]


def test_every_public_name_is_there_and_no_other_is_announced():
    for name in fourfold.__all__:
        assert getattr(fourfold, name) is not None
    assert dir(fourfold) == sorted(fourfold.__all__)
    assert set(fourfold._HOME) | {"__version__"} == set(fourfold.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'SentenceTransformers'"):
        fourfold.SentenceTransformers  # noqa: B018


def drawn_tree():
    """Return name, parent and built-in type of each line of the tree in the docstring of ``fourfold.errors``."""
    parents, rows = {}, []
    for line in re.findall(r"^    (?:[│├└ ]+──? )?\w+.*$", errors.__doc__, re.MULTILINE):
        depth = (len(line) - len(line.lstrip(" │├└─"))) // 4
        name, *rest = line.lstrip(" │├└─").split()
        parents[depth] = name
        rows.append((name, parents.get(depth - 1), rest[0] if rest else None))
    return rows


def test_the_tree_of_errors_is_drawn_as_it_is():
    classes = {n: c for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, Exception)}
    drawn = drawn_tree()
    assert {name for name, _, _ in drawn} == set(classes)
    for name, parent, builtin in drawn:
        bases = [base.__name__ for base in classes[name].__mro__]
        assert parent is None or parent in bases
        assert builtin is None or builtin in bases


def test_the_changelog_leads_with_this_version():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == fourfold.__version__


def test_every_dependency_is_pinned():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {normal(line.partition("==")[0]) for line in pins.splitlines() if re.match(r"[\w.-]+==", line)}
    lists = re.findall(r"^(?:dependencies|test|dev|torch|parquet) = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    wanted = {normal(name) for names in lists for name in re.findall(r"\"([\w.-]+)", names)} - {"fourfold"}
    assert len(wanted) > 15
    assert wanted <= pinned


def normal(name):
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
