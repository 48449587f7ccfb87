"""Draw a matrix of scores as a labelled heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fourfold.cli._drawing import (
    FAINT,
    FONT_SIZE,
    GAP,
    INK,
    PAPER,
    colours,
    font_for,
    number,
    width_of,
    wrap,
)

_LABEL_LINES = 3


def scale(scores: NDArray[Any]) -> tuple[float, float]:
    """Return the scores that get the first and the last colour.

    Cosines get 0 to 1, or -1 to 1 if one is clearly negative, so that two pictures compare; others their own range.
    """
    finite = scores[np.isfinite(scores)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= -1.001 and high <= 1.001:
        return (0.0 if low > -0.1 else -1.0), 1.0
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def draw(scores: NDArray[Any], rows: Sequence[str], columns: Sequence[str], *, title: str = "") -> Image.Image:
    """Return a picture of ``scores`` ``[rows, columns]`` with a label for each row and column.

    Args:
        scores: The matrix; NaN is drawn as an empty cell.
        rows: Labels of the rows; long ones are wrapped, and cut with an ellipsis after three lines.
        columns: Labels of the columns.
        title: A line over the picture.
    """
    return _Drawing(np.asarray(scores, np.float64), rows, columns, title).image()


class _Drawing:
    """One picture: measures labels first, then draws."""

    def __init__(self, scores: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], title: str) -> None:
        self.scores = scores
        self.low, self.high = scale(scores)
        self.title = title
        self.font = font_for(FONT_SIZE, [*rows, *columns, title])
        self.line = FONT_SIZE + 4
        few = max(scores.shape) <= 16
        self.cell = (72, 54) if few else (44, 34) if max(scores.shape) <= 40 else (16, 16)
        self.shows_values = self.cell[0] > 16
        self.value_font = font_for(14 if few else 11, [])
        # Wide cells carry their labels upright; narrow ones turn them.
        self.upright = few
        self.rows = [self._wrap(text, 250, _LABEL_LINES if few else 1) for text in rows]
        self.columns = [self._wrap(text, 100 if few else 190, 5 if few else 1) for text in columns]
        if few:
            widest = max((self._width(line) for lines in self.columns for line in lines), default=0)
            self.cell = (
                max(self.cell[0], widest + 12),
                max(self.cell[1], self.line * max(map(len, self.rows), default=0) + 8),
            )

    def image(self) -> Image.Image:
        """Draw everything."""
        count_rows, count_columns = self.scores.shape
        left = 2 * GAP + max((self._width(line) for lines in self.rows for line in lines), default=0)
        top = (self.line + 2 * GAP if self.title else GAP) + self._column_labels_height() + 8
        right, bottom = left + count_columns * self.cell[0], top + max(count_rows * self.cell[1], 96)
        picture = Image.new("RGB", (right + 110, bottom + 2 * GAP), PAPER)
        self.canvas, self.picture = ImageDraw.Draw(picture), picture
        self.canvas.text((GAP, GAP), self._wrap(self.title, right + 80, 1)[0], font=self.font, fill=INK)
        self._draw_cells(left, top)
        self._draw_labels(left, top)
        self._draw_bar(right + 2 * GAP, top, bottom)
        return picture

    def _draw_cells(self, left: int, top: int) -> None:
        wide, high = self.cell
        shades = (self.scores - self.low) / (self.high - self.low)
        fills = colours(shades)
        for (i, j), score in np.ndenumerate(self.scores):
            x, y = left + j * wide, top + i * high
            if not math.isfinite(score):
                continue
            self.canvas.rectangle((x, y, x + wide - 2, y + high - 2), fill=tuple(fills[i, j].tolist()))
            if self.shows_values:
                ink = PAPER if shades[i, j] < 0.55 else INK
                middle = (x + wide / 2 - 1, y + high / 2 - 1)
                self.canvas.text(middle, number(score), font=self.value_font, fill=ink, anchor="mm")

    def _draw_labels(self, left: int, top: int) -> None:
        wide, high = self.cell
        for i, lines in enumerate(self.rows):
            y = top + i * high + (high - self.line * len(lines)) / 2
            for k, line in enumerate(lines):
                self.canvas.text((left - GAP / 2, y + k * self.line), line, font=self.font, fill=INK, anchor="ra")
        for j, lines in enumerate(self.columns):
            x = left + j * wide
            if self.upright:
                for k, line in enumerate(reversed(lines)):
                    place = (x + wide / 2 - 1, top - 6 - k * self.line)
                    self.canvas.text(place, line, font=self.font, fill=INK, anchor="md")
            else:
                strip = Image.new("RGB", (self._width(lines[0]) + 2, self.line), PAPER)
                ImageDraw.Draw(strip).text((0, 0), lines[0], font=self.font, fill=INK)
                turned = strip.rotate(90, expand=True)
                self.picture.paste(turned, (int(x + wide / 2 - turned.width / 2), top - 6 - turned.height))

    def _draw_bar(self, x: int, top: int, bottom: int) -> None:
        ramp = colours(np.linspace(1, 0, bottom - top)[:, None].repeat(16, axis=1))
        self.picture.paste(Image.fromarray(ramp), (x, top))
        steps = 4 if bottom - top > 150 else 2
        for k in range(steps + 1):
            value = self.low + (self.high - self.low) * k / steps
            y = min(max(bottom - (bottom - top) * k / steps, top + 6), bottom - 6)
            self.canvas.text((x + 22, y), number(value), font=self.value_font, fill=FAINT, anchor="lm")

    def _column_labels_height(self) -> int:
        if self.upright:
            return self.line * max((len(lines) for lines in self.columns), default=0)
        return max((self._width(lines[0]) for lines in self.columns), default=0)

    def _width(self, text: str) -> int:
        return width_of(text, self.font)

    def _wrap(self, text: str, width: int, limit: int) -> list[str]:
        return wrap(text, self.font, width, limit)
