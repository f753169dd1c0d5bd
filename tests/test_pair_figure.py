"""The figure of a pair: same patient, same figure; folds in red; readable by position."""

import matplotlib.image
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from jaxreg.figures.pair import pair_figure
from jaxreg.figures.views import PLANES, side_position
from jaxreg.geometry.volume import Volume

SHAPE = (30, 24, 20)
SPACING_MM = (2.0, 2.5, 4.0)
LOWER = np.zeros((4, 4))
LOWER[:3, 3] = (50.0, -100.0, -300.0)


def scene():
    """Volumes in RAS: lungs as two boxes, a bright mark at the right, front and top of one."""
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = (-20.0, 15.0, 100.0)
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:12, 5:19, 3:17], mask[18:26, 5:19, 3:17] = 2, 1
    fixed = np.where(mask > 0, -850.0, 40.0).astype(np.float32)
    fixed[20:24, 11:19, 9:17] = 200.0
    determinant = np.ones(SHAPE, np.float32)
    warped = fixed + 100.0
    return {
        "fixed": Volume(fixed, affine),
        "moving": Volume(np.roll(fixed, 2, axis=2), affine),
        "warped": Volume(warped, affine),
        "determinant": Volume(determinant, affine),
        "mask": Volume(mask, affine),
    }


def turned(volume, codes):
    """The same volume with its axes stored in another order and direction."""
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    data = apply_orientation(volume.data, change)
    return Volume(data, volume.affine @ inv_ornt_aff(change, volume.shape))


def draw(path, volumes, **options):
    parts = {name: volumes[name].part for name in ("warped", "determinant")}
    pair_figure(path, **(volumes | parts), title="a $_{<title>$", lines=("one", "two"), **options)
    return matplotlib.image.imread(path)[..., :3]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("ras") / "report.png", scene())


@pytest.mark.parametrize("codes", ["LPS", "SAL", "PIR"])
def test_the_picture_does_not_depend_on_how_axes_are_stored(tmp_path, picture, codes):
    volumes = {name: turned(volume, codes) for name, volume in scene().items()}
    assert volumes["fixed"].shape != SHAPE or codes == "LPS"
    np.testing.assert_allclose(draw(tmp_path / "report.png", volumes), picture, atol=0.02)


@pytest.mark.parametrize(
    "top, height, left, width, x, y",
    [  # a panel in mm from the corner of the first one, and the mark's centre in it
        (0, 80, 0, 60, 1 - 22 / 30, 1 - 13 / 20),
        (80, 60, 0, 60, 1 - 22 / 30, 1 - 15 / 24),
        (140, 80, 0, 60, 1 - 15 / 24, 1 - 13 / 20),
    ],
    ids=["coronal", "axial", "sagittal"],
)
def test_right_front_and_head_are_where_they_belong(picture, top, height, left, width, x, y):
    dots_by_mm = 2.75 * 110 / 60
    gaps = 0.06 * 110 * (top > 0) + 0.06 * 110 * (top > 100)
    first = round(1.13 * 110 + gaps + top * dots_by_mm), round(0.45 * 110 + left * dots_by_mm)
    size = round(height * dots_by_mm), round(width * dots_by_mm)
    panel = picture[first[0] : first[0] + size[0], first[1] : first[1] + size[1]]
    mark = np.argwhere(np.all(panel[3:-3, 3:-3] > 0.97, axis=-1)).mean(axis=0) + 3
    np.testing.assert_allclose(mark / size, (y, x), atol=0.02)


def red(picture):
    return (picture[..., 0] > 0.8) & (picture[..., 1] < 0.1) & (picture[..., 2] < 0.1)


def test_folds_are_red_and_only_they(tmp_path, picture):
    volumes = scene()
    determinant = volumes["determinant"].data.copy()
    determinant[20:23, 10:13, 9:12] = -0.1  # in the right lung's middle, where all planes cut
    volumes["determinant"] = Volume(determinant, volumes["fixed"].affine)
    folded = red(draw(tmp_path / "report.png", volumes))
    assert not red(picture).any()
    assert folded.sum() > 300
    assert np.argwhere(folded)[:, 1].min() > 5 / 6 * picture.shape[1]


def test_moving_image_may_have_another_grid_and_mask_may_be_missing(tmp_path):
    volumes = scene()
    affine = np.diag([3.0, -3.0, 3.0, 1.0])
    affine[:3, 3] = (-10.0, 60.0, 110.0)
    volumes["moving"] = Volume(np.zeros((12, 10, 14), np.float32), affine)
    del volumes["mask"]
    assert draw(tmp_path / "report.png", volumes).std() > 0.1
    assert [path.name for path in tmp_path.iterdir()] == ["report.png"]


def test_another_grid_and_an_empty_mask_are_refused(tmp_path):
    volumes = scene()
    wrong = Volume(np.ones((4, 5, 6), np.float32), volumes["fixed"].affine)
    with pytest.raises(ValueError, match="fixed and mask: expected one grid, got"):
        draw(tmp_path / "report.png", volumes | {"mask": wrong})
    empty = Volume(np.zeros(SHAPE, np.uint8), volumes["fixed"].affine)
    with pytest.raises(ValueError, match="mask: expected lungs, got no voxel above 0"):
        draw(tmp_path / "report.png", volumes | {"mask": empty})
    assert not list(tmp_path.iterdir())


def test_planes_go_through_the_middle_of_the_lungs_and_the_right_one():
    from jaxreg.figures.sheet import middle_of

    lungs = np.zeros((30, 20, 16), bool)
    lungs[2:9, 3:12, 4:10], lungs[18:27, 5:12, 2:14] = (
        True,
        True,
    )  # left, right (x grows rightwards)
    inside = np.argwhere(lungs)
    expected = inside.mean(axis=0)
    expected[0] = inside[inside[:, 0] >= expected[0], 0].mean()
    assert middle_of(lungs) == np.rint(expected).astype(int).tolist()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL"])
def test_planes_say_where_they_cut_by_the_side_of_the_patient(codes):
    volume = scene()["fixed"]  # its origin is (-20, 15, 100) mm RAS, its voxels 2 x 2.5 x 4 mm
    volume = volume if codes == "RAS" else turned(volume, codes)
    words = [side_position(volume, plane, (5, 4, 3)) for plane in PLANES]
    assert words == ["A 25 mm", "S 112 mm", "L 10 mm"]
    low = Volume(volume.data, volume.affine + LOWER)
    words = [side_position(low, plane, (5, 4, 3)) for plane in PLANES]
    assert words == ["P 75 mm", "I 188 mm", "R 40 mm"]
