"""The pages say nothing that is not there: links, commands and make targets."""

import re
from pathlib import Path

import pytest

from fourfold.cli.main import commands

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, fragment in re.findall(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)]*))?\)", text):
        file = (page.parent / target) if target else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if fragment:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert fragment in anchors, f"{page.name} links to #{fragment}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_targets_exist(page):
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:text|sh|bash|console)\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    said = "\n".join(blocks)
    for name in re.findall(r"^(?:\$ )?fourfold ([a-z][\w-]*)", said, re.MULTILINE):
        assert name in commands(), f"{page.name} speaks of `fourfold {name}`"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE).group(1).split()
    for name in re.findall(r"^(?:\$ )?make ([a-z][\w-]*)", said, re.MULTILINE):
        assert name in targets, f"{page.name} speaks of `make {name}`"
