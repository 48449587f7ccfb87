"""Draw bars, each with its label in front and its numbers behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from fourfold.cli._drawing import FAINT, FONT_SIZE, GAP, INK, PAPER, colours, font_for, width_of, wrap

_ROW, _LINE = 26, FONT_SIZE + 6
_LABEL, _BAR, _TITLE = 220, 480, 3  # pixels of the widest label and the longest bar; lines of a title
_BELOW_ZERO = (176, 84, 60)


class Bar(NamedTuple):
    """One bar.

    Attributes:
        label: What it stands for.
        value: Its length, in shares of the longest.
        note: What is written behind it.
        share: Written behind that, fainter.
    """

    label: str
    value: float
    note: str
    share: str = ""


def draw(bars: Sequence[Bar], titles: Sequence[str]) -> Image.Image:
    """Return a picture of bars below some titles, the last of which is fainter.

    Args:
        bars: From the top; one below 0 has another colour.
        titles: A line each, or a few where it is long.
    """
    font = font_for(FONT_SIZE, [*titles, *(text for bar in bars for text in (bar.label, bar.note))])
    labels = [wrap(bar.label, font, _LABEL, 1)[0] for bar in bars]
    left = 2 * GAP + max((width_of(label, font) for label in labels), default=0)
    behind = [f"{bar.note}  {bar.share}".rstrip() for bar in bars]
    right = left + _BAR + GAP + max((width_of(text, font) for text in behind), default=0)
    lines = [(line, FAINT if title is titles[-1] and len(titles) > 1 else INK)
             for title in titles for line in wrap(title, font, right - GAP, _TITLE)]  # fmt: skip
    top = 2 * GAP + _LINE * len(lines)
    picture = Image.new("RGB", (right + GAP, top + _ROW * len(bars) + GAP), PAPER)
    canvas = ImageDraw.Draw(picture)
    for number, (line, colour) in enumerate(lines):
        canvas.text((GAP, GAP + number * _LINE), line, font=font, fill=colour)
    longest = max((abs(bar.value) for bar in bars), default=0.0) or 1.0
    for number, (bar, label) in enumerate(zip(bars, labels, strict=True)):
        share, middle = abs(bar.value) / longest, top + number * _ROW + _ROW / 2
        stop = left + max(round(share * _BAR), 1 if bar.value else 0)
        if stop > left:
            # The heaviest are darkest; no bar is as pale as the paper.
            shade = colours(np.array(0.6 - 0.5 * share)).tolist() if bar.value > 0 else _BELOW_ZERO
            canvas.rectangle((left, middle - 9, stop, middle + 8), fill=tuple(shade))
        canvas.text((left - GAP / 2, middle), label, font=font, fill=INK, anchor="rm")
        canvas.text((stop + GAP / 2, middle), bar.note, font=font, fill=INK, anchor="lm")
        after = stop + GAP / 2 + width_of(f"{bar.note}  ", font)
        canvas.text((after, middle), bar.share, font=font, fill=FAINT, anchor="lm")
    return picture
