"""The figure of a ventilation: same patient, same figure; pink below 0; nothing unmeasured."""

import matplotlib.image
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from jaxreg.figures.ventilation import ventilation_figure
from jaxreg.geometry.volume import Volume
from jaxreg.metrics.ventilation import UNITS

SHAPE = (30, 24, 20)
SPACING_MM = (2.0, 2.5, 4.0)


def scene(values=0.2):
    """Two boxes as lungs that take up air, the same in all measures."""
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = (-20.0, 15.0, 100.0)
    regions = np.zeros(SHAPE, np.uint8)
    regions[4:12, 5:19, 3:17], regions[18:26, 5:19, 3:17] = 5, 2
    fixed = np.where(regions > 0, -850.0, 40.0).astype(np.float32)
    image = np.where(regions > 0, values, -1.0).astype(np.float32)  # below 0 outside: not shown
    return (
        Volume(fixed, affine),
        {name: Volume(image, affine) for name in UNITS},
        Volume(regions, affine),
    )


def turned(volume, codes):
    """The same volume with its axes stored in another order and direction."""
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    data = apply_orientation(volume.data, change)
    return Volume(data, volume.affine @ inv_ornt_aff(change, volume.shape))


def draw(path, fixed, maps, regions):
    words = {"title": "a $_{<title>$", "lines": ("one",), "table": [("left lower third", "+1")]}
    ventilation_figure(path, fixed=fixed, maps=maps, units=UNITS, regions=regions, **words)
    return matplotlib.image.imread(path)[..., :3]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("ras") / "v.png", *scene())


@pytest.mark.parametrize("codes", ["LPS", "SAL"])
def test_the_picture_does_not_depend_on_how_axes_are_stored(tmp_path, picture, codes):
    fixed, maps, regions = scene()
    maps = {name: turned(volume, codes) for name, volume in maps.items()}
    found = draw(tmp_path / "v.png", turned(fixed, codes), maps, turned(regions, codes))
    np.testing.assert_allclose(found, picture, atol=0.02)


def pink(picture):
    red, green, blue = np.moveaxis(picture, -1, 0)
    return (red > 0.6) & (green < 0.5) & (blue > 0.45) & (red > blue)


def test_what_shrinks_on_inhalation_is_pink(tmp_path, picture):
    shrinking = draw(tmp_path / "v.png", *scene(-0.2))
    # the ends of four colour bars, and then the lungs
    assert 50 < np.count_nonzero(pink(picture)) < 2000
    assert np.count_nonzero(pink(shrinking)) > 25 * np.count_nonzero(pink(picture))


def test_colours_have_no_edge_at_zero(tmp_path):
    values = np.full(SHAPE, 0.2)
    pictures = []
    for value in (0.001, -0.001):
        values[:, :, :10] = value
        pictures.append(draw(tmp_path / "v.png", *scene(values)))
    above, below = pictures
    assert np.abs(above - below).any()
    lungs = np.s_[: above.shape[0] // 2]  # without histograms, whose numbers differ
    assert np.abs(above[lungs] - below[lungs]).max() < 0.05
