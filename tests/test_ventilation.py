"""Ventilation measures: closed forms, explicit sums, a phantom whose volume change is known."""

import dataclasses
import datetime

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from jaxreg.config import VentilationConfig
from jaxreg.geometry.resampling import field_determinant
from jaxreg.geometry.volume import Volume
from jaxreg.geometry.warping import warp_volume
from jaxreg.lungs.sides import LEFT, RIGHT
from jaxreg.metrics.ventilation import UNITS, inhaled_image, masses, ventilation_measures
from jaxreg.metrics.ventilation_regions import (
    heights_mm,
    region_row,
    regions_of_lungs,
    thirds_of_height,
    with_fractions,
)
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.registered import RegisteredPair
from jaxreg.pipeline.ventilation import ventilation

SHAPE = (13, 11, 9)
SPACING_MM = (2.0, 2.5, 3.0)
PLAIN = VentilationConfig(smoothing_mm=0.0, rim_mm=0.0)


def measure(determinant, fixed, warped, *, inhale, mask=None, config=PLAIN):
    """Measures of arrays, or of numbers that hold everywhere."""
    images = [
        np.broadcast_to(np.asarray(image, np.float32), SHAPE)
        for image in (determinant, fixed, warped)
    ]
    mask = np.ones(SHAPE, bool) if mask is None else mask
    return ventilation_measures(
        *images, mask, lungs=mask, inhale=inhale, spacing_mm=SPACING_MM, config=config
    )


def lung_mask():
    mask = np.zeros(SHAPE, bool)
    mask[2:11, 3:10, 1:8] = True
    mask[5, 6, 4] = False
    return mask


@pytest.mark.parametrize("inhale", ["fixed", "moving"])
@pytest.mark.parametrize(
    "config", [PLAIN, VentilationConfig(), VentilationConfig(kernel="box", smoothing_mm=9.0)]
)
@pytest.mark.parametrize("growth", [1.35, 0.9])
def test_uniform_expansion_of_air_and_tissue(inhale, config, growth):
    """Exhaled lungs of 30 % tissue grow by a factor; tissue keeps its volume."""
    exhaled, inhaled = -700.0, 1000 * (0.3 / growth) - 1000
    if inhale == "moving":
        images = (growth, exhaled, inhaled)
    else:
        images = (1 / growth, inhaled, exhaled)
    mask = lung_mask()
    found = measure(*images, inhale=inhale, mask=mask, config=config)
    expected = {"volume": growth - 1, "air": (growth - 1) / 0.7}
    assert list(found.maps) == list(UNITS)
    for name, values in found.maps.items():
        np.testing.assert_allclose(values[mask], expected[name.split("_")[0]], atol=2e-5)
        assert not values[~mask].any()
    assert found.mass_ratio == pytest.approx(1, abs=1e-5)
    assert set(found.limited.values()) == {0}


def test_hu_measure_is_the_published_formula():
    """Guerrero 2006: 1000 (HU_in - HU_ex) / (HU_ex (HU_in + 1000)), negative HU, exhaled fixed."""
    rng = np.random.default_rng(0)
    hu_ex, hu_in = rng.uniform(-900, -500, SHAPE), rng.uniform(-950, -600, SHAPE)
    config = VentilationConfig(smoothing_mm=0.0, rim_mm=0.0, mass_correction=False)
    found = measure(1.1, hu_ex, hu_in, inhale="moving", config=config).maps["air_hu"]
    np.testing.assert_allclose(
        found, 1000 * (hu_in - hu_ex) / (hu_ex * (hu_in + 1000)), rtol=1e-4, atol=1e-5
    )


def test_corrected_jacobian_is_the_published_formula():
    """Ding 2012: J HU_in / HU_ex - 1."""
    rng = np.random.default_rng(1)
    hu_ex, hu_in = rng.uniform(-900, -500, SHAPE), rng.uniform(-950, -600, SHAPE)
    growth = rng.uniform(0.8, 1.5, SHAPE)
    found = measure(growth, hu_ex, hu_in, inhale="moving").maps["air_jacobian"]
    np.testing.assert_allclose(found, growth * hu_in / hu_ex - 1, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inhale", ["fixed", "moving"])
def test_more_blood_in_one_image_is_corrected(inhale):
    """Where the inhaled lungs hold 12 % more tissue, the same everywhere, densities tell it."""
    growth, blood = 1.2, 1.12
    exhaled, inhaled = -700.0, 1000 * (0.3 * blood / growth) - 1000
    images = (growth, exhaled, inhaled) if inhale == "moving" else (1 / growth, inhaled, exhaled)
    found = measure(*images, inhale=inhale)
    assert found.mass_ratio == pytest.approx(blood, rel=1e-5)
    np.testing.assert_allclose(found.maps["volume_hu"], growth - 1, atol=1e-5)
    config = VentilationConfig(smoothing_mm=0.0, rim_mm=0.0, mass_correction=False)
    plain = measure(*images, inhale=inhale, config=config).maps["volume_hu"]
    np.testing.assert_allclose(plain, growth / blood - 1, atol=1e-5)


@pytest.mark.parametrize("kernel", ["gaussian", "box"])
def test_mean_over_a_neighbourhood_by_explicit_sums(kernel):
    """Of the mask alone: what lies outside has no influence, whatever it is."""
    rng = np.random.default_rng(2)
    mask, determinant = lung_mask(), rng.uniform(0.5, 2.0, SHAPE)
    determinant[~mask] = 7.0
    config = VentilationConfig(kernel=kernel, smoothing_mm=7.5, rim_mm=0.0)
    found = measure(determinant, -800, -800, inhale="moving", mask=mask, config=config)
    places = np.argwhere(mask)
    for voxel in ((2, 3, 1), (6, 6, 4), (10, 9, 7)):
        away_mm = np.abs(places - voxel) * SPACING_MM
        if kernel == "box":
            weight = np.all(np.abs(places - voxel) <= (1, 1, 1), axis=1).astype(float)  # 3 voxels
        else:
            sigma = 7.5 / np.sqrt(8 * np.log(2))
            reach = np.rint(3.0 * sigma / np.array(SPACING_MM))  # of the kernel, voxels
            weight = np.exp(-0.5 * np.sum(away_mm**2, axis=1) / sigma**2)
            weight *= np.all(np.abs(places - voxel) <= reach, axis=1)
        mean = np.average(determinant[mask], weights=weight)
        assert found.maps["volume_jacobian"][voxel] == pytest.approx(mean - 1, abs=1e-5)


def test_fine_voxels_are_averaged_in_blocks_first():
    """The Gaussian is then a little wider: against that on the fine grid itself."""
    shape, spacing_mm = (47, 41, 30), (0.7, 0.8, 1.1)
    rng = np.random.default_rng(4)
    growth = 1 + scipy.ndimage.gaussian_filter(rng.normal(size=shape), 3).astype(np.float32)
    mask = np.zeros(shape, bool)
    mask[3:45, 2:40, 4:29] = True
    images = (growth, np.full(shape, -800, np.float32), np.full(shape, -800, np.float32))
    config = VentilationConfig(smoothing_mm=10.0, rim_mm=0.0)
    found = ventilation_measures(
        *images, mask, lungs=mask, inhale="moving", spacing_mm=spacing_mm, config=config
    ).maps["volume_jacobian"]
    sigma = 10.0 / np.sqrt(8 * np.log(2)) / np.array(spacing_mm)
    sums, weights = (
        scipy.ndimage.gaussian_filter(image, sigma, mode="constant", truncate=3.0)
        for image in (np.where(mask, growth, 0), mask.astype(np.float32))
    )
    expected = (sums / np.maximum(weights, 1e-6) - 1)[mask]
    assert np.abs(found[mask] - expected).max() < 0.06 * np.ptp(expected)
    assert np.corrcoef(found[mask], expected)[0, 1] > 0.999


def test_chest_wall_in_the_rim_is_left_out_of_densities():
    mask = lung_mask()
    hu = np.where(mask, -800.0, 50.0)
    hu[2], hu[10] = -300.0, -300.0  # partial volume on both sides
    images = (1.0, np.where(mask, -800.0, 50.0), hu)
    config = VentilationConfig(smoothing_mm=6.0, rim_mm=0.5)
    found = measure(*images, inhale="moving", mask=mask, config=config)
    np.testing.assert_allclose(found.maps["volume_hu"][mask], 0, atol=1e-5)
    config = VentilationConfig(smoothing_mm=6.0, rim_mm=0.0)
    found = measure(*images, inhale="moving", mask=mask, config=config)
    assert np.ptp(found.maps["volume_hu"][mask]) > 0.2


def test_values_that_make_no_sense_are_limited_and_counted():
    determinant = np.full(SHAPE, 1.1, np.float32)
    determinant[0, 0, 0], determinant[1, 0, 0] = -0.3, 40.0
    fixed, warped = np.full(SHAPE, -700.0), np.full(SHAPE, -720.0)
    fixed[2, 0, 0], warped[3, 0, 0] = 60.0, -1024.0  # no air exhaled; lighter than air inhaled
    found = measure(determinant, fixed, warped, inhale="moving")
    assert found.limited == {
        "volume_jacobian": 2,
        "volume_hu": 1,
        "air_jacobian": 3,
        "air_hu": 2,
    }
    assert all(np.isfinite(values).all() for values in found.maps.values())


@pytest.mark.parametrize(("mean", "larger"), [(1.05, "moving"), (0.97, "fixed")])
def test_the_image_with_larger_lungs_is_the_inhaled_one(mean, larger):
    mask = lung_mask()
    determinant = np.where(mask, np.float32(mean), np.float32(2 - mean))
    assert inhaled_image(determinant, mask) == larger


def test_thirds_are_of_the_height_of_each_lung():
    mask = np.zeros((6, 4, 12), np.uint8)
    mask[0:2, :, 0:12], mask[4:6, :, 3:9] = LEFT, RIGHT
    affine = np.diag([1.0, 1.0, -2.0, 1.0])  # stored from head to foot
    affine[:3, 3] = (5.0, 6.0, 100.0)
    heights = heights_mm(mask, affine)
    assert (heights.min(), heights.max()) == (78.0, 100.0)
    thirds = np.zeros(mask.shape, int)
    thirds[mask > 0] = thirds_of_height(mask[mask > 0], heights)
    assert thirds[0, 0].tolist() == [6] * 4 + [5] * 4 + [4] * 4
    assert thirds[5, 1].tolist() == [0] * 3 + [3] * 2 + [2] * 2 + [1] * 2 + [0] * 3


def test_stray_voxels_do_not_move_the_thirds():
    heights = np.concatenate([np.repeat(np.arange(90.0), 20), [-200.0, 300.0]])
    thirds = thirds_of_height(np.full(len(heights), RIGHT), heights)
    assert np.bincount(thirds)[1:].tolist() == [601, 600, 601]


def test_heights_are_of_the_world_not_of_the_array():
    angle = 0.4
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(SPACING_MM)
    mask = np.zeros(SHAPE, np.uint8)
    mask[1, 2, 3] = mask[4, 8, 1] = 1
    expected = [(affine @ [*voxel, 1])[2] for voxel in ((1, 2, 3), (4, 8, 1))]
    np.testing.assert_allclose(heights_mm(mask, affine), expected, rtol=1e-6)


def table(inhale="moving"):
    rng = np.random.default_rng(3)
    count = 4000
    sides = rng.choice([RIGHT, LEFT], count).astype(np.uint8)
    thirds = thirds_of_height(sides, rng.uniform(0, 250, count))
    labels = rng.integers(0, 4, count)
    arrays = (
        rng.uniform(size=count) < 0.9,
        rng.uniform(-900, -600, count),
        rng.uniform(-900, -600, count),
        rng.uniform(0.9, 1.5, count),
    )
    maps = {name: rng.normal(size=count) for name in UNITS}
    rows = [
        region_row(region, *arrays, maps, inhale=inhale, voxel_ml=0.02)
        for region in regions_of_lungs(thirds, labels=labels)
    ]
    return with_fractions(rows), arrays, maps


def test_regions_of_each_group_add_up_to_the_lungs():
    rows, (measured, fixed, warped, determinant), maps = table()
    whole = rows[0]
    assert [row["group"] for row in rows].count("label") == 4
    assert rows[-1]["region"] == "outside the labels"
    for group in ("lung", "third", "label"):
        parts = [row for row in rows if row["group"] == group]
        for name in whole:
            if name.endswith("_ml") or name == "air_change_fraction":
                assert sum(row[name] for row in parts) == pytest.approx(whole[name], rel=1e-9)
        volume = sum(row["measured_fraction"] * row["lung_ml"] for row in parts)
        assert volume == pytest.approx(whole["volume_fixed_ml"])
    assert whole["volume_fixed_ml"] == pytest.approx(0.02 * measured.sum())
    assert whole["volume_moving_ml"] == pytest.approx(0.02 * determinant[measured].sum())
    air = -(warped * determinant)[measured].sum() / 1000 * 0.02
    assert whole["air_moving_ml"] == pytest.approx(air)
    assert whole["air_hu_mean"] == pytest.approx(maps["air_hu"][measured].mean())
    assert whole["air_hu_p50"] == pytest.approx(np.median(maps["air_hu"][measured]))


def test_changes_are_inhaled_less_exhaled():
    for moving, fixed in zip(table("moving")[0], table("fixed")[0], strict=True):
        assert moving["volume_change_ml"] == -fixed["volume_change_ml"] > 0
        assert moving["air_change_fraction"] == pytest.approx(fixed["air_change_fraction"])


def test_masses_of_a_mixture():
    found = masses(np.array([-1000.0, 0.0]), np.array([-500.0, 0.0]), np.array([2.0, 0.5]))
    assert found.volume == (2.0, 2.5) and found.air == (1.0, 1.0) and found.tissue == (1.0, 1.5)


@pytest.fixture(scope="module", params=["inhale", "exhale"])
def phantom(request):
    """One subject, with either state as the fixed image, and its ventilation by the true field."""
    pair = phantom_pair(5, shape=(80, 64, 72), motion=22.0, fixed_phase=request.param)
    lungs = (pair.fixed_labels.data > 0).astype(np.uint8)
    registered = RegisteredPair(
        pair.fixed,
        warp_volume(pair.moving, pair.displacement, fill=-1024),
        field_determinant(pair.displacement),
        Volume(lungs, pair.fixed.affine),
    )
    return pair, request.param, registered, ventilation(registered, labels=pair.fixed_labels)


def test_measures_of_a_phantom_agree_with_its_true_volume_change(phantom):
    _, phase, registered, found = phantom
    assert found.summary["inhale"] == ("fixed" if phase == "inhale" else "moving")
    assert not found.warnings
    lungs = registered.valid.data == 1
    growth = registered.determinant.data[lungs]
    true = (1 / growth if phase == "inhale" else growth) - 1
    by_hu = 0.45 if phase == "inhale" else 0.7  # voxels of 4.7 mm: much chest wall in the lungs
    least = {"volume_jacobian": 0.97, "volume_hu": by_hu, "air_jacobian": 0.93, "air_hu": by_hu}
    for name, values in found.maps.items():
        assert scipy.stats.spearmanr(values.data[lungs], true)[0] > least[name]
        error = np.abs(values.data[lungs] - true).mean()
        if name.startswith("volume"):
            assert error < (0.015 if name == "volume_jacobian" else 0.06)
        else:  # per air, not per volume
            assert 1.05 < np.median(values.data[lungs]) / np.median(true) < 1.6


def test_the_change_of_volume_does_not_depend_on_which_image_is_fixed(phantom):
    pair, phase, _, found = phantom
    voxel_ml = abs(np.linalg.det(pair.fixed.affine[:3, :3])) / 1e3
    fixed, moving = (
        np.count_nonzero(labels.data) * voxel_ml
        for labels in (pair.fixed_labels, pair.moving_labels)
    )
    change = fixed - moving if phase == "inhale" else moving - fixed
    assert found.rows[0]["volume_change_ml"] == pytest.approx(change, rel=0.03)
    assert [row["group"] for row in found.rows].count("label") == 5


def doubts(registered, **options):
    return {warning.code for warning in ventilation(registered, **options).warnings}


def test_what_is_doubtful_is_said(phantom):
    _, phase, registered, _ = phantom
    wrong = "moving" if phase == "inhale" else "fixed"
    assert doubts(registered, inhale=wrong) == {"inhale-is-smaller"}
    affine = registered.fixed.affine
    same = Volume(np.ones(registered.fixed.shape, np.float32), affine)
    still = RegisteredPair(registered.fixed, registered.fixed, same, registered.valid)
    assert doubts(still) == {"same-state"}
    contrast = Volume(registered.warped.data + 150.0, affine)
    pair = RegisteredPair(registered.fixed, contrast, registered.determinant, registered.valid)
    assert doubts(pair) == {"mass-differs"}
    halved = registered.valid.data.astype(np.uint8).copy()
    halved[:, :, ::2] *= 2
    part = Volume(np.minimum(halved, 2), affine)
    pair = RegisteredPair(registered.fixed, registered.warped, registered.determinant, part)
    assert doubts(pair) == {"partly-measured"}
    dates = datetime.date(2026, 1, 10), datetime.date(2025, 1, 10)
    assert doubts(dataclasses.replace(registered, dates=dates)) == {"two-visits"}
    assert not doubts(dataclasses.replace(registered, dates=dates[:1] * 2))
    nowhere = Volume(np.zeros(registered.fixed.shape, np.uint8), affine)
    assert doubts(registered, labels=nowhere) == {"labels-outside"}
    other = affine @ np.diag([1.5, 1.25, 0.75, 1.0])
    everywhere = Volume(np.ones((40, 40, 80), np.uint8), other)
    assert doubts(registered, labels=everywhere) == {"other-grid"}
    apart = affine + np.outer([1e4, 0, 0, 0], [0, 0, 0, 1])
    with pytest.raises(ValueError, match="labels: expected labels that overlap with the image"):
        ventilation(registered, labels=Volume(everywhere.data, apart))
    none = RegisteredPair(registered.fixed, registered.warped, registered.determinant, nowhere)
    with pytest.raises(ValueError, match="valid: expected voxels of the lungs that both images"):
        ventilation(none)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"kernel": "median"}, "kernel: expected gaussian or box, got median. Choose one."),
        ({"smoothing_mm": -1.0}, "smoothing_mm: expected 0 \\(none\\) to 100 mm, got -1.0. Use 15"),
        ({"rim_mm": 21.0}, "rim_mm: expected 0 to 20 mm, got 21.0. Use 5."),
        ({"least_air": 0.0}, "least_air: expected a number between 0 and 1, got 0.0."),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, text):
    with pytest.raises(ValueError, match=text):
        VentilationConfig(**setting)
