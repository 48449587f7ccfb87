"""What pictures are drawn with: a font that has the letters, colours, numbers, and lines that fit."""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFont

from fourfold.store.files import write_bytes

INK, FAINT, PAPER = (28, 30, 38), (104, 108, 122), (255, 255, 255)
FONT_SIZE, GAP = 15, 14
_BUILT_IN = "Aileron"  # the font inside Pillow, which holds ASCII
# Fonts that reach beyond Pillow's built-in one, tried in this order when a label needs them.
WIDE_FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msgothic.ttc", "arial.ttf")

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


def number(value: float) -> str:
    """Return a score as text: two decimals near 1, fewer where the number is large."""
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.2f}" if abs(value) < 100 else f"{value:.4g}"
    return text.removeprefix("-") if float(text) == 0 else text


def font_for(size: int, texts: Sequence[str]) -> Any:
    if not all(text.isascii() for text in texts):
        for name in WIDE_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def printable(text: str, font: Any) -> str:
    """Return ``text`` without control characters and, where only the built-in font is there, without accents."""
    if font.getname()[0] == _BUILT_IN:
        text = unicodedata.normalize("NFKD", text)
        text = "".join(character for character in text if not unicodedata.combining(character))
    return "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)


def width_of(text: str, font: Any) -> int:
    """Return how many pixels wide a line is."""
    return math.ceil(font.getlength(text))


def wrap(text: str, font: Any, width: int, limit: int) -> list[str]:
    """Break ``text`` into at most ``limit`` lines of ``width`` pixels; an ellipsis says that text is missing."""
    lines: list[str] = []
    line = ""
    for word in _pieces(text, font, width):
        longer = f"{line} {word}" if line else word
        if width_of(longer, font) <= width:
            line = longer
            continue
        if len(lines) + 1 == limit:
            while line and width_of(f"{line} …", font) > width:
                line = line[:-1]
            return [*lines, f"{line.rstrip()} …"]
        lines.append(line)
        line = word
    return [*lines, line]


def _pieces(text: str, font: Any, width: int) -> Iterator[str]:
    """Yield the words of ``text``, cut where one is wider than a line."""
    for word in printable(text[:1000], font).split():
        piece = ""
        for character in word:
            if piece and width_of(piece + character, font) > width:
                yield piece
                piece = ""
            piece += character
        yield piece


def save(picture: Image.Image, png: Path) -> None:
    """Write a picture to a file in one step."""
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    write_bytes(png, data.getvalue())
