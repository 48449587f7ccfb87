"""Draw a matrix of scores as a labelled heat map."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

INK, FAINT, PAPER = (28, 30, 38), (104, 108, 122), (255, 255, 255)
_FONT_SIZE, _GAP, _LABEL_LINES = 15, 14, 3
_BUILT_IN = "Aileron"  # the font inside Pillow, which holds ASCII
# Fonts that reach beyond Pillow's built-in one, tried in this order when a label needs them.
_WIDE_FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msgothic.ttc", "arial.ttf")

# Colours go from dark blue to pale yellow on a straight line of lightness in OKLab, so that equal steps of score look
# equally large, also in grey and to colour-blind eyes. Rows are lightness, chroma, hue in degrees.
_STOPS = np.array([[0.25, 0.09, 285], [0.45, 0.12, 255], [0.62, 0.11, 210], [0.79, 0.13, 160], [0.96, 0.11, 108]])


def colours(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return sRGB colours ``[..., 3]`` for values ``[...]`` between 0 and 1; others get the end's colour."""
    at = np.clip(np.nan_to_num(values), 0, 1) * (len(_STOPS) - 1)
    lightness, chroma, hue = (np.interp(at, range(len(_STOPS)), column) for column in _STOPS.T)
    a, b = chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(cones**3 @ to_linear.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(srgb * 255).astype(np.uint8)


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
        self.font = _font(_FONT_SIZE, [*rows, *columns, title])
        self.line = _FONT_SIZE + 4
        few = max(scores.shape) <= 16
        self.cell = (72, 54) if few else (44, 34) if max(scores.shape) <= 40 else (16, 16)
        self.shows_values = self.cell[0] > 16
        self.value_font = _font(14 if few else 11, [])
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
        left = 2 * _GAP + max((self._width(line) for lines in self.rows for line in lines), default=0)
        top = (self.line + 2 * _GAP if self.title else _GAP) + self._column_labels_height() + 8
        right, bottom = left + count_columns * self.cell[0], top + max(count_rows * self.cell[1], 96)
        picture = Image.new("RGB", (right + 110, bottom + 2 * _GAP), PAPER)
        self.canvas, self.picture = ImageDraw.Draw(picture), picture
        self.canvas.text((_GAP, _GAP), self._wrap(self.title, right + 80, 1)[0], font=self.font, fill=INK)
        self._draw_cells(left, top)
        self._draw_labels(left, top)
        self._draw_bar(right + 2 * _GAP, top, bottom)
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
                self.canvas.text((left - _GAP / 2, y + k * self.line), line, font=self.font, fill=INK, anchor="ra")
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
        return math.ceil(self.font.getlength(text))

    def _wrap(self, text: str, width: int, limit: int) -> list[str]:
        """Break ``text`` into at most ``limit`` lines of ``width`` pixels; an ellipsis says that text is missing."""
        lines: list[str] = []
        line = ""
        for word in self._pieces(text, width):
            longer = f"{line} {word}" if line else word
            if self._width(longer) <= width:
                line = longer
                continue
            if len(lines) + 1 == limit:
                while line and self._width(f"{line} …") > width:
                    line = line[:-1]
                return [*lines, f"{line.rstrip()} …"]
            lines.append(line)
            line = word
        return [*lines, line]

    def _pieces(self, text: str, width: int) -> Iterator[str]:
        """Yield the words of ``text``, cut where one is wider than a line."""
        for word in _printable(text[:1000], self.font).split():
            piece = ""
            for character in word:
                if piece and self._width(piece + character) > width:
                    yield piece
                    piece = ""
                piece += character
            yield piece


def number(value: float) -> str:
    """Return a score as text: two decimals near 1, fewer where the number is large."""
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.2f}" if abs(value) < 100 else f"{value:.4g}"
    return text.removeprefix("-") if float(text) == 0 else text


def _font(size: int, texts: Sequence[str]) -> Any:
    if not all(text.isascii() for text in texts):
        for name in _WIDE_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def _printable(text: str, font: Any) -> str:
    """Return ``text`` without control characters and, where only the built-in font is there, without accents."""
    if font.getname()[0] == _BUILT_IN:
        text = unicodedata.normalize("NFKD", text)
        text = "".join(character for character in text if not unicodedata.combining(character))
    return "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)
