"""Figures from thumbnails: slices in order, folds red, the patient's right on the left."""

import dataclasses

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxreg.figures.comparison import image_figure, jacobian_figure
from jaxreg.figures.thumbnails import Thumbnail


def thumbnail():
    shape = (30, 24, 20)
    lungs = np.zeros(shape, np.uint8)
    lungs[4:12, 4:19, 3:17], lungs[18:26, 4:19, 3:17] = 1, 1
    fixed = np.where(lungs > 0, 40, 220).astype(np.uint8)
    fixed[20:24, :, 10:15] = 255  # in the right lung, near its top
    moving = np.roll(fixed, 2, axis=2)
    return Thumbnail(fixed, moving, fixed, np.full(shape, 128, np.uint8), lungs, 3.0)


@pytest.fixture
def saved(monkeypatch):
    kept, save = [], Figure.savefig

    def keep(figure, *arguments, **options):
        kept.append(figure)
        return save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


def panels(figure, count):
    """Axes with images, row by row, without the colour bars."""
    return np.array(figure.axes[: 5 * count]).reshape(count, 5)


def red(picture):
    return (picture[..., 0] > 0.8) & (picture[..., 1] < 0.1) & (picture[..., 2] < 0.1)


def test_five_columns_before_and_after(tmp_path, saved):
    image_figure(tmp_path / "a.png", {"affine": thumbnail(), "$_<full>$": thumbnail()})
    rows = panels(saved[0], 2)
    assert [axis.get_title() for axis in rows[0]] == [
        "fixed",
        "moving",
        "warped",
        "fixed − moving",
        "fixed − warped",
    ]
    assert [row[0].get_ylabel() for row in rows] == ["affine", "$_<full>$"]
    letters = [text.get_text() for text in rows[0][0].texts]
    assert letters == ["R", "L", "S", "I"]
    fixed, moving, warped, before, after = (np.asarray(a.images[0].get_array()) for a in rows[1])
    assert fixed.shape == (20, 30)  # from the feet up, from the patient's right to the left
    mark = np.argwhere(fixed > 190)
    assert mark.min(axis=0).tolist() == [10, 6] and mark.max(axis=0).tolist() == [14, 9]
    np.testing.assert_array_equal(warped, fixed)
    np.testing.assert_allclose(before, fixed - moving, atol=1e-3)
    assert np.abs(before).max() > 500 and not after.any()
    labels = [axis.get_xlabel() for axis in saved[0].axes[10:]]
    assert labels == ["HU", "difference, HU"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_folds_are_red_and_slices_run_from_front_to_back(tmp_path, saved):
    clean, bad = thumbnail(), thumbnail()
    determinant = bad.determinant.copy()
    determinant[20:23, 14:, 9:12] = 0  # in the front, to the patient's right
    bad = dataclasses.replace(bad, determinant=determinant)
    jacobian_figure(tmp_path / "a.png", {"good": clean})
    assert not red(matplotlib.image.imread(tmp_path / "a.png")).any()
    jacobian_figure(tmp_path / "a.png", {"good": clean, "bad": bad})
    picture = red(matplotlib.image.imread(tmp_path / "a.png"))
    assert picture.sum() > 300
    height, width = picture.shape
    rows, columns = np.argwhere(picture).T
    assert rows.min() > 0.4 * height and columns.max() < width / 2
    row = panels(saved[1], 2)[1]
    shown = [bool(axis.images[2].get_array()[..., 3].any()) for axis in row]
    assert shown == [True, True, False, False, False]
    values = row[2].images[1].get_array()
    assert values.count() == 2 * 8 * 14 and np.ma.allequal(values, 1.0)
