"""Draw how a training went: losses over steps, and below them what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

from fourfold.cli._drawing import FAINT, FONT_SIZE, GAP, INK, PAPER, font_for, width_of, wrap

WIDTH, PANEL = 960, 300  # pixels: of the picture, and of one panel's axes from top to bottom
_LEFT, _TOP, _BELOW, _RIGHT = 84, 56, 56, 28
_TICK, _GRID = 5, (232, 233, 238)
_LEGEND = 380  # pixels of the widest name
# Distinct by lightness too, for grey paper and colour-blind eyes.
COLOURS = ((32, 72, 160), (204, 98, 24), (16, 130, 110), (150, 40, 120), (120, 120, 30), (90, 90, 100))
# Shares of an exponential mean: a point has half its weight from about the last ten points.
_SMOOTHING = 0.1

Points = list[tuple[float, float]]


class Series(NamedTuple):
    """A line.

    Attributes:
        name: What the legend calls it.
        points: Steps and values.
        colour: Red, green and blue.
        faint: Whether it is drawn thin and pale, behind a smoothed line of the same colour.
        dots: Whether each point is marked.
    """

    name: str
    points: Points
    colour: tuple[int, int, int]
    faint: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Axis:
    """Values on a line of pixels.

    Attributes:
        low: The value at ``start``.
        high: The value at ``stop``.
        start: A pixel.
        stop: A pixel; smaller than ``start`` where values grow upwards.
    """

    low: float
    high: float
    start: float
    stop: float

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Return round values on the axis.

        >>> Axis(0, 10, 0, 100).ticks(), Axis(0.31, 0.48, 0, 100).ticks()
        ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [0.35, 0.4, 0.45])
        """
        step = _round_step((self.high - self.low) / about)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        label: What its values are.
        series: Its lines.
        across: Steps.
        up: Values.
    """

    label: str
    series: list[Series]
    across: Axis
    up: Axis

    def point(self, step: float, value: float) -> tuple[float, float]:
        """Return the pixel of a value at a step."""
        return self.across.at(step), self.up.at(value)


@dataclass
class _Found:
    losses: dict[str, Points] = field(default_factory=dict)
    metrics: dict[str, Points] = field(default_factory=dict)


def panels(rows: Iterable[Mapping[str, Any]], metrics: Sequence[str] = ()) -> list[Panel]:
    """Return the axes of a training: its losses, and its metrics where there are any.

    Args:
        rows: What was logged, each with ``step``.
        metrics: The keys that are drawn besides losses.
    """
    found = _Found()
    for row in rows:
        for key, value in row.items():
            kind = found.losses if key == "loss" or _is_eval_loss(key) else found.metrics if key in metrics else None
            if kind is not None and isinstance(value, (int, float)) and math.isfinite(value):
                kind.setdefault(key, []).append((float(row["step"]), float(value)))
    every = [points for kind in (found.losses, found.metrics) for points in kind.values()]
    steps = [step for points in every for step, _ in points]
    across = Axis(0.0, max(steps, default=1.0) or 1.0, _LEFT, WIDTH - _RIGHT)
    made = [_panel("loss", _loss_series(found.losses), across, 0)]
    if found.metrics:
        lines = [
            Series(key.removeprefix("eval_"), points, COLOURS[number % len(COLOURS)], dots=True)
            for number, (key, points) in enumerate(found.metrics.items())
        ]
        made.append(_panel("metric", lines, across, 1))
    return made


def draw(panels: Sequence[Panel], title: str) -> Image.Image:
    """Return the picture of some panels, one below the other.

    Args:
        panels: As :func:`panels` makes them.
        title: A line above.
    """
    names = [line.name for panel in panels for line in panel.series]
    font = font_for(FONT_SIZE, [title, *names])
    picture = Image.new("RGB", (WIDTH, _height(len(panels))), PAPER)
    canvas = ImageDraw.Draw(picture)
    canvas.text((GAP, GAP / 2), wrap(title, font, WIDTH - 2 * GAP, 1)[0], font=font, fill=INK)
    for number, panel in enumerate(panels):
        _axes(canvas, panel, font, last=number == len(panels) - 1)
        for line in panel.series:
            _line(canvas, panel, line)
        _legend(canvas, panel, font)
    return picture


def smoothed(points: Sequence[tuple[float, float]]) -> Points:
    """Return an exponential mean of the points so far, at each of them, without a bias towards the first.

    >>> smoothed([(1, 2.0), (2, 2.0)])
    [(1, 2.0), (2, 2.0)]
    """
    made: Points = []
    total = weight = 0.0
    for step, value in points:
        total = total * (1 - _SMOOTHING) + value * _SMOOTHING
        weight = weight * (1 - _SMOOTHING) + _SMOOTHING
        made.append((step, total / weight))
    return made


def _is_eval_loss(key: str) -> bool:
    return (key.startswith("eval_") and key.endswith("_loss")) or key == "eval_loss"


def _loss_series(losses: Mapping[str, Points]) -> list[Series]:
    made = []
    if points := losses.get("loss"):
        made = [
            Series("", points, COLOURS[0], faint=True),
            Series("training loss", smoothed(points), COLOURS[0], dots=len(points) == 1),
        ]
    others = [(key, points) for key, points in losses.items() if key != "loss"]
    for number, (key, points) in enumerate(others, 1):
        name = key.removeprefix("eval_").removesuffix("loss").strip("_")
        colour = COLOURS[number % len(COLOURS)]
        made.append(Series(f"evaluation loss {name}".strip(), points, colour, dots=True))
    return made


def _panel(label: str, lines: list[Series], across: Axis, number: int) -> Panel:
    values = [value for line in lines for _, value in line.points]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    top = _TOP + number * (PANEL + _BELOW)
    return Panel(label, lines, across, Axis(low - room, high + room, top + PANEL, top))


def _height(panels: int) -> int:
    return _TOP + panels * (PANEL + _BELOW)


def _round_step(step: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least ``step``."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))


def _axes(canvas: ImageDraw.ImageDraw, panel: Panel, font: Any, *, last: bool) -> None:
    left, right, bottom, top = panel.across.start, panel.across.stop, panel.up.start, panel.up.stop
    for value in panel.up.ticks():
        y = panel.up.at(value)
        canvas.line((left, y, right, y), fill=_GRID)
        canvas.line((left - _TICK, y, left, y), fill=FAINT)
        canvas.text((left - _TICK - 4, y), f"{value:.4g}", font=font, fill=FAINT, anchor="rm")
    for value in panel.across.ticks(8):
        if value != int(value):
            continue
        x = panel.across.at(value)
        canvas.line((x, bottom, x, bottom + _TICK), fill=FAINT)
        canvas.text((x, bottom + _TICK + 3), f"{int(value):,}", font=font, fill=FAINT, anchor="ma")
    canvas.line((left, top, left, bottom), fill=FAINT)
    canvas.line((left, bottom, right, bottom), fill=FAINT)
    canvas.text((GAP, top - 4), panel.label, font=font, fill=INK, anchor="ls")
    if last:
        canvas.text((right, bottom + _TICK + FONT_SIZE + 8), "step", font=font, fill=INK, anchor="ra")


def _line(canvas: ImageDraw.ImageDraw, panel: Panel, line: Series) -> None:
    pixels = [panel.point(step, value) for step, value in line.points]
    red, green, blue = (round(part + (255 - part) * 0.62) for part in line.colour)
    colour = (red, green, blue) if line.faint else line.colour
    if len(pixels) > 1:
        canvas.line(pixels, fill=colour, width=1 if line.faint else 3, joint="curve")
    if line.dots:
        for x, y in pixels:
            canvas.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour)


def _legend(canvas: ImageDraw.ImageDraw, panel: Panel, font: Any) -> None:
    """Write the names of the lines into the upper right corner, on paper that hides the grid."""
    lines = [line for line in panel.series if line.name]
    names = [wrap(line.name, font, _LEGEND, 1)[0] for line in lines]
    if not lines:
        return
    right, top = panel.across.stop, panel.up.stop
    left = right - max(width_of(name, font) for name in names) - 44
    canvas.rectangle((left, top, right, top + len(lines) * (FONT_SIZE + 6) + 6), fill=PAPER, outline=_GRID)
    for number, (line, name) in enumerate(zip(lines, names, strict=True)):
        middle = top + 4 + (number + 0.5) * (FONT_SIZE + 6)
        canvas.line((left + 8, middle, left + 28, middle), fill=line.colour, width=3)
        canvas.text((left + 36, middle), name, font=font, fill=INK, anchor="lm")
