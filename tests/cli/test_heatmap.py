"""Heat maps: colours that mean what they show, labels that fit."""

import numpy as np
import pytest

from fourfold.cli import _drawing, _heatmap
from fourfold.cli._drawing import colours, number
from fourfold.cli._heatmap import draw, scale


def lightness(colour):
    linear = np.where(colour / 255 <= 0.04045, colour / 255 / 12.92, ((colour / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(luminance) - 16


def test_equal_steps_of_score_are_equal_steps_of_lightness():
    steps = np.diff(lightness(colours(np.linspace(0, 1, 11)).astype(float)))
    assert (steps > 4).all()
    assert steps.max() < 2.2 * steps.min()


def test_colours_end_at_the_ends():
    assert colours(np.array([-3.0, np.nan])).tolist() == [colours(np.array(0.0)).tolist()] * 2
    assert colours(np.array([7.0])).tolist() == [colours(np.array(1.0)).tolist()]


@pytest.mark.parametrize(
    ("scores", "ends"),
    [
        ([0.2, 0.9], (0, 1)),
        ([-0.05, 1.0000001], (0, 1)),
        ([-0.5, 0.9], (-1, 1)),
        ([12, 30], (12, 30)),
        ([-9, np.nan], (-9.5, -8.5)),
        ([np.nan], (0, 1)),
    ],
)
def test_cosines_share_one_scale_and_other_scores_have_their_own(scores, ends):
    assert scale(np.array(scores)) == ends


@pytest.mark.parametrize(("value", "text"), [(0.123, "0.12"), (-0.001, "0.00"), (12.3, "12.30"), (1234.5, "1234")])
def test_numbers_are_short(value, text):
    assert number(value) == text


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (30, 20), (60, 60), (0, 0)])
def test_any_shape_is_drawn(shape):
    scores = np.random.default_rng(0).uniform(size=shape)
    if scores.size:
        scores.flat[0] = np.nan
    label = "a label that is a good deal longer than there is room for, whatever the shape of the picture may be "
    picture = draw(scores, [label * 3] * shape[0], [label * 3] * shape[1], title="t" * 500)
    assert picture.width < 1500
    assert picture.height < 1500


def test_cells_have_their_colour_and_rows_run_down():
    scores = np.array([[0.0, 0.0], [1.0, 0.0]])
    picture = np.asarray(draw(scores, ["a", "b"], ["c", "d"]))
    dark, light = (np.argwhere((picture == colours(np.array(v))).all(-1)) for v in (0.0, 1.0))
    inside = picture.shape[1] - 110
    dark, light = dark[dark[:, 1] < inside - 4], light[light[:, 1] < inside - 4]
    assert light[:, 0].mean() > dark[:, 0].mean()
    assert light[:, 1].mean() < dark[:, 1].mean()


def test_labels_are_wrapped_and_cut_to_the_pixel():
    drawing = _heatmap._Drawing(np.ones((1, 1)), ["x"], ["y"], "")
    for text in ("word " * 50, "W" * 300, "short", "", "two\nlines\x00"):
        lines = drawing._wrap(text, 120, 3)
        assert 1 <= len(lines) <= 3
        assert all(drawing._width(line) <= 120 for line in lines)
    assert drawing._wrap("word " * 50, 120, 3)[-1].endswith("…")
    assert drawing._wrap("two\nlines\x00", 120, 3) == ["two lines"]


def test_without_a_wider_font_accents_are_dropped_rather_than_drawn_as_boxes(monkeypatch):
    monkeypatch.setattr(_drawing, "WIDE_FONTS", ())
    drawing = _heatmap._Drawing(np.ones((1, 1)), ["Käse"], ["y"], "")
    assert drawing.rows == [["Kase"]]
