"""Delineation of lesions in images that are known, and the files in which lesions are marked."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from jaxreg.config import FollowConfig
from jaxreg.geometry.volume import Volume
from jaxreg.io.lesions import lesions_of_labels, read_lesions
from jaxreg.io.nifti import write_volume
from jaxreg.metrics.lesions import on_grid, outlines, patch_around
from jaxreg.pipeline.follow_lungs import without_lesions
from jaxreg.pipeline.follow_match import Scan, look_for

SHAPE, SPACING = (72, 64, 40), np.array([0.9, 1.1, 1.6])
BALL = np.array([34.0, 33.0, 30.0])


def scan(*, radius_mm=6.0, hu=40.0, vessel_mm=1.2, noise_hu=25.0, wall_mm=None):
    """A lung with a ball on a straight vessel, oversampled fourfold, then blurred and noisy."""
    fine = [np.arange(4 * n) for n in SHAPE]
    x, y, z = ((a + 0.5) / 4 - 0.5 for a in fine)
    x, y, z = x * SPACING[0], y * SPACING[1], z * SPACING[2]
    image = np.full([len(a) for a in fine], -860.0, np.float32)
    along = (x[:, None, None] - BALL[0] + y[:, None] - BALL[1]) / np.sqrt(2)
    squares = (x[:, None, None] - BALL[0]) ** 2 + (y[:, None] - BALL[1]) ** 2 + (z - BALL[2]) ** 2
    image[squares - along**2 < vessel_mm**2] = 40.0
    image[squares < radius_mm**2] = hu
    if wall_mm is not None:
        image[(x > BALL[0] + wall_mm)[:, None, None] & (squares > 0)] = 50.0
    image = image.reshape(SHAPE[0], 4, SHAPE[1], 4, SHAPE[2], 4).mean((1, 3, 5))
    image = ndimage.gaussian_filter(image, 0.6 / SPACING)
    image += np.random.default_rng(0).normal(size=SHAPE) * noise_hu
    affine = np.diag([*(SPACING * (-1, -1, 1)), 1.0])
    affine[:3, 3] = (70.0, 40.0, -300.0)
    lungs = np.ones(SHAPE, np.uint8)
    if wall_mm is not None:
        lungs[np.arange(SHAPE[0]) * SPACING[0] > BALL[0] + wall_mm] = 0
    volume = Volume(image.astype(np.float32), affine)
    return volume, Volume(lungs, affine), volume.world_from_voxel(BALL / SPACING)


def found(image, lungs, place, within_mm=6.0):
    return outlines(patch_around(image, lungs, place, 25.0), place, within_mm)


@pytest.mark.parametrize("hu", [40.0, -500.0])
@pytest.mark.parametrize("radius_mm", [4.0, 9.0])
def test_volume_and_centre_of_a_ball_on_a_vessel(radius_mm, hu):
    image, lungs, centre = scan(radius_mm=radius_mm, hu=hu)
    place = centre + (1.5, -1.0, 1.0)
    (outline,) = (o for o in found(image, lungs, place) if o.compact)
    true = 4 / 3 * np.pi * radius_mm**3 / 1e3
    assert outline.ml == pytest.approx(true, rel=0.12)
    assert np.linalg.norm(outline.centre_mm - centre) < 0.6
    assert outline.diameter_mm == pytest.approx(2 * radius_mm, rel=0.05)
    assert outline.hu == pytest.approx(hu, abs=60)
    assert outline.elongation < 1.3


def test_a_small_ball_without_a_stub_of_the_vessel_it_sits_on():
    image, lungs, centre = scan(radius_mm=2.6, vessel_mm=1.5)
    patch = patch_around(image, lungs, centre, 25.0)
    true = 4 / 3 * np.pi * 2.6**3 / 1e3
    (outline,) = outlines(patch, centre, 2.0)
    assert outline.compact and outline.ml == pytest.approx(true, rel=0.2)
    (leaked,) = outlines(patch, centre, 2.0, config=FollowConfig(most_cut=9.0))
    assert leaked.ml > 1.25 * true
    (doubtful,) = outlines(patch, centre, 2.0, config=FollowConfig(most_cut=1.001))
    assert not doubtful.compact


def test_a_ball_on_the_chest_wall():
    image, lungs, centre = scan(radius_mm=6.0, wall_mm=6.5)
    (outline,) = (o for o in found(image, lungs, centre) if o.compact)
    assert outline.ml == pytest.approx(0.905, rel=0.12)


def test_a_match_of_quite_another_volume_is_doubtful():
    image, lungs, centre = scan(radius_mm=4.0)
    (outline,) = (o for o in found(image, lungs, centre) if o.compact)
    here = Scan("moving", image, lungs)
    assert look_for(here, outline, centre, 0.9).doubt == ""
    larger = dataclasses.replace(outline, ml=10 * outline.ml)
    match = look_for(here, larger, centre, 0.9)
    assert match.outline is not None
    assert match.doubt == "the volumes differ 10-fold: what was found may be a vessel"


def test_what_is_unclear_within_the_error_of_the_field_leaves_it_open_whether_a_lesion_is_gone():
    image, lungs, centre = scan(radius_mm=0.0, vessel_mm=2.2)
    here = Scan("moving", image, lungs)
    (vessel, *_) = found(image, lungs, centre, 1.0)
    ball = dataclasses.replace(vessel, radius_mm=4.0, ml=0.268, compact=True)
    for beside_mm, in_question in ((2.5, True), (4.5, False)):
        place = centre + (0.0, 0.0, beside_mm)  # beside_mm - 2 or so from the vessel's surface
        match = look_for(here, ball, place, 0.9)
        assert match.outline is None and bool(match.doubt) == in_question
    large = dataclasses.replace(ball, radius_mm=3 * ball.radius_mm)  # no vessel hides that
    assert not look_for(here, large, centre, 0.9).doubt


def test_a_vessel_alone_is_no_lesion():
    image, lungs, centre = scan(radius_mm=0.0, vessel_mm=2.2)
    assert found(image, lungs, centre) and not any(o.compact for o in found(image, lungs, centre))


def test_lung_alone_holds_nothing():
    image, lungs, centre = scan(radius_mm=0.0, vessel_mm=0.0)
    assert found(image, lungs, centre, 20.0) == []


def test_a_mask_on_another_grid_keeps_its_volume_and_is_cut_out_with_a_margin():
    image, lungs, centre = scan()
    (outline,) = (o for o in found(image, lungs, centre) if o.compact)
    box, inside = on_grid(outline.mask, image.grid)
    ml = outline.mask.data.sum() * np.prod(outline.mask.spacing_mm) / 1e3
    assert inside.sum() * np.prod(SPACING) / 1e3 == pytest.approx(ml, rel=0.03)
    assert on_grid(outline.mask, Volume(lungs.data, lungs.affine - 0).grid)[0] == box
    cut = without_lesions(lungs, [outline, None], None, 5.0)
    world = image.world_from_voxel(np.moveaxis(np.indices(SHAPE), 0, -1))
    apart = np.linalg.norm(world - centre, axis=-1)
    assert not cut.data[apart < 10.0].any() and cut.data[apart > 13.0].all()


def test_labels_are_lesions_by_number_or_by_part(tmp_path):
    image, _, _ = scan()
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:14, 20:24, 5:8], labels[30:40, 40:50, 20:30], labels[50, 10, 10] = 3, 3, 3
    parts = lesions_of_labels(Volume(labels, image.affine), "x")
    assert [lesion.name for lesion in parts.lesions] == ["1", "2", "3"]
    voxel_ml = np.prod(SPACING) / 1e3
    assert [lesion.ml / voxel_ml for lesion in parts.lesions] == pytest.approx([48, 1000, 1])
    place = image.world_from_voxel(np.array([34.5, 44.5, 24.5]))
    np.testing.assert_allclose(parts.lesions[1].place_mm, place, atol=1e-6)
    labels[50, 10, 10] = 7
    write_volume(tmp_path / "l.nii.gz", Volume(labels, image.affine))
    named = read_lesions(tmp_path / "l.nii.gz", image.grid)
    assert [lesion.name for lesion in named.lesions] == ["3", "7"]
    assert named.labels is not None and named.labels.data.sum() == 1049
    write_volume(tmp_path / "none.nii.gz", Volume(0 * labels, image.affine))
    with pytest.raises(ValueError, match="none.nii.gz: expected lesions, got no voxel above 0"):
        read_lesions(tmp_path / "none.nii.gz", image.grid)


def test_points_are_lesions_within_the_image(tmp_path):
    image, _, centre = scan()
    path = tmp_path / "p.csv"
    x, y, z = centre
    path.write_text(f"# space: LPS\nlabel,x,y,z\nbig,{-x},{-y},{z}\n", encoding="utf-8")
    (lesion,) = read_lesions(path, image.grid).lesions
    assert lesion.name == "big" and lesion.ml is None
    np.testing.assert_allclose(lesion.place_mm, centre, atol=1e-4)
    path.write_text(f"# space: RAS\nx,y,z\n{x},{y},{z}\n{x},{y},{z + 900}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="expected points within the image, got 1 of 2 outside"):
        read_lesions(path, image.grid)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"openings": (0.6, 0.4)}, "openings: expected numbers in rising order"),
        ({"openings": (0.6, 1.4)}, "openings: expected fractions between 0 and 1"),
        ({"openings": (0.6,)}, "openings: expected two or more fractions, got"),
        ({"margin_mm": -1.0}, "margin_mm: expected 0 to 50 mm, got -1.0. Use 5."),
        ({"most_cut": 0.9}, "most_cut: expected a number above 1, got 0.9. Use 1.4."),
        ({"most_elongation": 0.5}, "most_elongation: expected a number above 1"),
        ({"least_change": 0.0}, "least_change: expected a fraction between 0 and 1"),
        ({"most_ratio": 1.0}, "most_ratio: expected a number above 1, got 1.0. Use 8."),
        ({"least_quality": 1.0}, "least_quality: expected a fraction from 0 to 1"),
        ({"search_mm": 0.0}, "search_mm: expected a number above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, text):
    with pytest.raises(ValueError, match=text):
        FollowConfig(**setting)
