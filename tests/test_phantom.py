"""The phantom: right displacements, images like CT, motion like respiration."""

import numpy as np
import pytest
import scipy.ndimage

from jaxreg.phantom.motion import draw_motion
from jaxreg.phantom.pair import phantom_pair
from jaxreg.phantom.scan import draw_subject
from jaxreg.phantom.trees import grow, rasterise

SHAPE = (62, 52, 56)
SPACING = (5.5, 5.0, 6.0)

# DIR-Lab 4DCT cases 1-5, from breathing_motion.json: over the cases the least and greatest mean
# superior motion, mm, in each fifth of the lungs' height (base first) and depth (front first)
BY_HEIGHT_MM = ([7.1, 3.9, 2.3, 1.2, 0.3], [13.3, 12.8, 7.8, 4.2, 1.9])
BY_DEPTH_MM = ([0.9, 1.9, 2.7, 3.7, 5.3], [4.6, 5.8, 7.4, 8.7, 12.2])


@pytest.fixture(scope="module", params=["inhale", "exhale"])
def pair(request):
    return phantom_pair(9, shape=SHAPE, spacing_mm=SPACING, fixed_phase=request.param)


@pytest.fixture(scope="module")
def deep():
    return phantom_pair(4, shape=(64, 52, 56), motion="breath-hold")


def _eroded(labels):
    return scipy.ndimage.binary_erosion(labels.data > 0)


def _warp(pair):
    moving = pair.moving
    world = np.stack(np.indices(pair.fixed.shape), -1).astype(float)
    world = pair.fixed.world_from_voxel(world) + pair.displacement.data
    index = np.moveaxis(moving.voxel_from_world(world), -1, 0)
    return scipy.ndimage.map_coordinates(moving.data, index, order=1, mode="nearest")


def _determinant(field):
    gradient = [np.gradient(field.data[..., c], *field.spacing_mm) for c in range(3)]
    return np.linalg.det(np.moveaxis(np.array(gradient), (0, 1), (-2, -1)) + np.eye(3))


def test_same_seed_gives_the_same_bits():
    first, second = (phantom_pair(5, shape=(20, 18, 22)) for _ in range(2))
    for name in ("fixed", "moving", "fixed_labels", "moving_labels", "displacement"):
        np.testing.assert_array_equal(getattr(first, name).data, getattr(second, name).data)
        np.testing.assert_array_equal(getattr(first, name).affine, getattr(second, name).affine)
    np.testing.assert_array_equal(first.fixed_landmarks, second.fixed_landmarks)
    np.testing.assert_array_equal(first.moving_landmarks, second.moving_landmarks)


def test_another_seed_gives_another_subject():
    first, second = (phantom_pair(seed, shape=(20, 18, 22)) for seed in (5, 6))
    assert np.mean(first.fixed.data != second.fixed.data) > 0.5
    assert not np.allclose(first.fixed.affine, second.fixed.affine)


def test_subject_does_not_depend_on_the_grid():
    coarse, fine = (phantom_pair(7, shape=s) for s in ((24, 20, 22), (48, 44, 40)))
    litres = [
        np.bincount(p.fixed_labels.data.ravel())[1:] * np.prod(p.fixed.spacing_mm) / 1e6
        for p in (coarse, fine)
    ]
    np.testing.assert_allclose(litres[0], litres[1], rtol=0.12)


def test_landmarks_follow_the_field_and_lie_in_the_lungs(pair):
    assert pair.fixed_landmarks.shape == pair.moving_landmarks.shape
    assert len(pair.fixed_landmarks) >= 150
    index = pair.fixed.voxel_from_world(pair.fixed_landmarks).T
    moved = [
        scipy.ndimage.map_coordinates(pair.displacement.data[..., c], index, order=1)
        for c in range(3)
    ]
    error = pair.fixed_landmarks + np.stack(moved, -1) - pair.moving_landmarks
    assert np.abs(error).max() < 0.01
    assert np.all(pair.fixed_labels.data[tuple(np.round(index).astype(int))] > 0)
    index = np.round(pair.moving.voxel_from_world(pair.moving_landmarks).T).astype(int)
    near = scipy.ndimage.binary_dilation(pair.moving_labels.data > 0)
    assert np.mean(near[tuple(index)]) == 1.0


def test_landmarks_are_where_the_motion_takes_the_branchings():
    subject = draw_subject(np.random.default_rng([3, 0]))
    breath = draw_motion(
        np.random.default_rng([3, 1]), subject.thorax.cavity, subject.lung_points, "4dct"
    )
    pair = phantom_pair(3, shape=SHAPE, spacing_mm=SPACING)
    origin = pair.fixed.affine[:3, 3] - _first_voxel(pair, subject)
    exact = breath.content(pair.fixed_landmarks - origin) + origin
    error = np.linalg.norm(exact - pair.moving_landmarks, axis=1)
    assert error.max() < 0.15  # trilinear sampling of the field between 6.5 mm voxels
    assert error.mean() < 0.03


def _first_voxel(pair, subject):
    """Anatomical position of voxel (0, 0, 0): the landmarks are among the tree's branchings."""
    nodes = np.concatenate([t.nodes[t.branchings()] for t in subject.vessels])
    widths = np.concatenate([t.radius_mm[t.branchings()] for t in subject.vessels])
    widest = nodes[np.argsort(-widths)[:60]]
    offsets = (pair.fixed_landmarks[:, None] - widest[None]).reshape(-1, 3)
    rounded, counts = np.unique(np.round(offsets, 3), axis=0, return_counts=True)
    return pair.fixed.affine[:3, 3] - rounded[counts.argmax()]


def test_landmarks_lie_on_vessels():
    pair = phantom_pair(3, shape=(110, 90, 100))
    index = pair.fixed.voxel_from_world(pair.fixed_landmarks).T
    at = scipy.ndimage.map_coordinates(pair.fixed.data, index, order=1)
    assert np.median(at) > np.percentile(pair.fixed.data[_eroded(pair.fixed_labels)], 90)


@pytest.mark.parametrize("labels", ["fixed_labels", "moving_labels"])
def test_five_lobes_cover_the_lungs(pair, labels):
    labels = getattr(pair, labels)
    litres = np.bincount(labels.data.ravel(), minlength=6)[1:] * np.prod(labels.spacing_mm) / 1e6
    assert labels.data.max() == 5
    assert np.all(litres > 0.1)
    assert 2.0 < litres.sum() < 8.5
    x = labels.world_from_voxel(np.argwhere(labels.data > 0).astype(float))[:, 0]
    lobe = labels.data[labels.data > 0]
    assert x[lobe <= 3].mean() > x[lobe > 3].mean() + 80.0  # the patient's right: x grows (RAS)
    z = np.argwhere(labels.data > 0)[:, 2]
    assert z[lobe == 1].mean() > z[lobe == 2].mean() > z[lobe == 3].mean()
    assert z[lobe == 4].mean() > z[lobe == 5].mean()


def test_moving_warped_by_the_truth_resembles_fixed(pair):
    _assert_warped_resembles_fixed(pair)


def test_deeply_exhaled_warped_by_the_truth_resembles_fixed(deep):
    _assert_warped_resembles_fixed(deep)


def _assert_warped_resembles_fixed(pair):
    lung = _eroded(pair.fixed_labels)
    before, after = (
        np.abs(scipy.ndimage.gaussian_filter(pair.fixed.data - other, 0.7))[lung].mean()
        for other in (pair.moving.data, _warp(pair))
    )
    assert after < 0.55 * before
    warped_labels = pair.moving_labels.data[tuple(_nearest(pair))]
    inside = pair.fixed_labels.data > 0
    assert np.mean(warped_labels[inside] == pair.fixed_labels.data[inside]) > 0.93


def _nearest(pair):
    world = np.stack(np.indices(pair.fixed.shape), -1).astype(float)
    world = pair.fixed.world_from_voxel(world) + pair.displacement.data
    index = np.round(np.moveaxis(pair.moving.voxel_from_world(world), -1, 0)).astype(int)
    limit = np.array(pair.moving.shape).reshape(3, 1, 1, 1) - 1
    return np.clip(index, 0, limit)


@pytest.mark.parametrize("motion", ["4dct", "breath-hold", 60.0])
def test_maps_are_free_of_folds_and_invert(motion):
    for seed in range(6):
        subject = draw_subject(np.random.default_rng([seed, 0]))
        rng = np.random.default_rng([seed, 1])
        breath = draw_motion(rng, subject.thorax.cavity, subject.lung_points, motion)
        points = subject.lung_points
        step = 1e-3 * np.eye(3)
        columns = [(breath.content(points + h) - breath.content(points - h)) / 2e-3 for h in step]
        assert np.linalg.det(np.stack(columns, -1)).min() > 0.1
        back = breath.content_inverse(breath.content(points))
        assert np.abs(back - points).max() < 1e-3
        back = breath.wall_inverse(breath.wall_map(points))
        assert np.abs(back - points).max() < 1e-9


def test_field_of_the_grid_is_free_of_folds(pair, deep):
    for p in (pair, deep):
        assert _determinant(p.displacement)[p.fixed_labels.data > 0].min() > 0.1


def test_quiet_breathing_moves_like_the_measured_cases():
    by_height, by_depth, peaks, means = [], [], [], []
    for seed in range(12):
        subject = draw_subject(np.random.default_rng([seed, 0]))
        rng = np.random.default_rng([seed, 1])
        points = subject.lung_points
        breath = draw_motion(rng, subject.thorax.cavity, points, "4dct")
        motion = breath.content(points) - points
        place = (points - points.min(0)) / np.ptp(points, axis=0)
        fifth = np.minimum((5 * place).astype(int), 4)
        by_height.append([motion[fifth[:, 2] == k, 2].mean() for k in range(5)])
        by_depth.append([motion[fifth[:, 1] == 4 - k, 2].mean() for k in range(5)])
        peaks.append(motion[:, 2].max())
        means.append(np.linalg.norm(motion, axis=1).mean())
    for measured, drawn in ((BY_HEIGHT_MM, by_height), (BY_DEPTH_MM, by_depth)):
        mean = np.mean(drawn, axis=0)
        assert np.all(mean > measured[0]) and np.all(mean < measured[1])
    assert np.all(np.diff(np.mean(by_height, axis=0)) < 0)  # base most
    assert np.mean(by_depth, axis=0)[-1] > 2.0 * np.mean(by_depth, axis=0)[0]  # back most
    assert 9.0 < min(peaks) and max(peaks) < 26.0  # measured: 11.5 to 20.75
    assert 3.0 < np.mean(means) < 9.3 and np.ptp(means) > 2.0  # measured: 3.5 to 9.2


@pytest.mark.parametrize("peak", [0.0, 12, 45.0])
def test_motion_in_millimetres_is_the_peak(peak):
    pair = phantom_pair(1, shape=(40, 36, 44), motion=peak)
    superior = pair.displacement.data[..., 2][pair.fixed_labels.data > 0]
    assert superior.max() == pytest.approx(peak, abs=2.5)
    if peak == 0.0:
        np.testing.assert_allclose(pair.displacement.data, 0.0, atol=1e-6)
        np.testing.assert_array_equal(pair.fixed_labels.data, pair.moving_labels.data)
        assert np.any(pair.fixed.data != pair.moving.data)  # other noise, other blur


def test_exhaled_volume_and_density_keep_the_mass(deep):
    def mass(image, labels):
        inside = labels.data > 0
        return np.sum(image.data[inside] + 1000.0) * np.prod(image.spacing_mm)

    inhaled, exhaled = (
        np.count_nonzero(v.data) * np.prod(v.spacing_mm)
        for v in (deep.fixed_labels, deep.moving_labels)
    )
    assert exhaled < 0.9 * inhaled
    before = mass(deep.fixed, deep.fixed_labels)
    assert mass(deep.moving, deep.moving_labels) == pytest.approx(before, rel=0.1)


def test_parenchyma_is_scaled_by_the_determinant(deep):
    lung = scipy.ndimage.binary_erosion(deep.fixed_labels.data > 0, iterations=2)
    lung &= deep.fixed.data < -780.0  # no vessels
    density = (_warp(deep) + 1000.0) * _determinant(deep.displacement)
    ratio = density[lung] / (deep.fixed.data[lung] + 1000.0)
    assert np.median(ratio) == pytest.approx(1.0, abs=0.08)


def test_lungs_slide_along_the_wall_without_a_gap():
    subject = draw_subject(np.random.default_rng([4, 0]))
    cavity = subject.thorax.cavity
    rng = np.random.default_rng([4, 1])
    breath = draw_motion(rng, cavity, subject.lung_points, "breath-hold")
    angle, z = np.meshgrid(np.linspace(0.0, 2.0 * np.pi, 60), np.linspace(5.0, 200.0, 40))

    def surface(angle, z):
        cosine, sine = np.cos(angle), np.sin(angle)
        n = cavity.exponent
        q = (np.abs(cosine) ** n + np.abs(sine) ** n) ** (1.0 / n)
        return cavity.absolute(cosine / q, sine / q, z)

    points = surface(angle, z)
    content, wall = breath.content(points), breath.wall_map(points)
    # back through the wall's map, slid tissue still lies on the same surface
    xi, eta = cavity.relative(breath.wall_inverse(content))
    n = cavity.exponent
    np.testing.assert_allclose(np.abs(xi) ** n + np.abs(eta) ** n, 1.0, atol=1e-6)
    jump = content - wall
    assert np.linalg.norm(jump, axis=-1).max() > 10.0
    assert np.abs(wall - points)[..., 2].max() < 1e-9  # ribs do not move up and down
    # where the surface is steep, sliding is nearly along z; its normal part is second order
    normal = np.cross(surface(angle + 1e-4, z) - points, surface(angle, z + 1e-2) - points)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    fraction = np.abs(np.sum(jump * normal, -1)) / (np.linalg.norm(jump, axis=-1) + 1.0)
    assert np.median(fraction) < 0.05


def test_wall_and_lung_fields_differ_at_the_pleura(deep):
    lung = deep.fixed_labels.data > 0
    rim = lung & ~scipy.ndimage.binary_erosion(lung)
    jump = deep.displacement.data - deep.wall_displacement.data
    assert np.abs(jump[..., 2][rim]).max() > 10.0
    assert np.abs(deep.wall_displacement.data[..., 2]).max() < 1e-3


@pytest.mark.parametrize("phase", ["fixed", "moving"])
def test_tissues_have_the_hounsfield_units_of_ct(pair, phase):
    image, labels = getattr(pair, phase), getattr(pair, phase + "_labels")
    lung = scipy.ndimage.binary_erosion(labels.data > 0, iterations=2)
    assert -900.0 < np.median(image.data[lung]) < -700.0
    assert image.data[0, -1, 0] == pytest.approx(-1000.0, abs=120.0)  # room air
    assert image.data.min() >= -1024.0 and image.data.max() <= 3071.0
    bone = np.percentile(image.data, 99.7)
    assert 150.0 < bone < 1000.0
    soft = image.data[(image.data > -200.0) & (image.data < 150.0)]
    assert 0.1 < soft.size / image.data.size < 0.7
    np.testing.assert_array_equal(image.data, np.round(image.data))


def test_noise_of_the_exhaled_scan_is_twice_that_of_the_inhaled():
    pair = phantom_pair(2, shape=(40, 36, 44), motion=0.0)
    air = (slice(0, 3), slice(-3, None), slice(None))
    noise = [np.std(np.maximum(v.data[air], -1023.0)) for v in (pair.fixed, pair.moving)]
    assert noise[1] > 1.4 * noise[0]  # cut off at -1024 HU, so less than double


@pytest.mark.parametrize(
    "shape, spacing_mm",
    [((33, 27, 41), (11.0, 9.0, 8.0)), ((64, 48, 20), (5.0, 6.0, 15.0)), ((16, 16, 16), None)],
)
def test_any_grid(shape, spacing_mm):
    pair = phantom_pair(8, shape=shape, spacing_mm=spacing_mm)
    assert pair.fixed.shape == pair.moving.shape == shape
    assert pair.displacement.data.shape == (*shape, 3)
    if spacing_mm is not None:
        np.testing.assert_allclose(pair.fixed.spacing_mm, spacing_mm)
    assert set(np.unique(pair.fixed_labels.data)) == {0, 1, 2, 3, 4, 5}
    assert np.linalg.norm(pair.fixed.affine[:3, 3]) > 1.0


def test_grid_smaller_than_the_lungs():
    pair = phantom_pair(8, shape=(24, 20, 16), spacing_mm=(3.0, 3.5, 4.0))
    index = pair.fixed.voxel_from_world(pair.fixed_landmarks)
    assert np.all(index >= 0) and np.all(index <= np.array(pair.fixed.shape) - 1)


def test_shift_moves_the_patient_and_the_grid():
    still = phantom_pair(9, shape=(24, 20, 22))
    shifted = phantom_pair(9, shape=(24, 20, 22), moving_shift_mm=(10.0, -20.0, 35.0))
    np.testing.assert_array_equal(still.moving.data, shifted.moving.data)
    np.testing.assert_array_equal(still.fixed.affine, shifted.fixed.affine)
    shift = shifted.moving.affine[:3, 3] - still.moving.affine[:3, 3]
    np.testing.assert_allclose(shift, (10.0, -20.0, 35.0), atol=1e-9)
    moved = shifted.displacement.data - still.displacement.data
    np.testing.assert_allclose(moved, np.broadcast_to(shift, moved.shape), atol=1e-4)
    landmarks = shifted.moving_landmarks - still.moving_landmarks
    np.testing.assert_allclose(landmarks, np.broadcast_to(shift, landmarks.shape), atol=1e-4)


def test_tree_reaches_every_target_and_follows_murray():
    rng = np.random.default_rng(0)
    targets = rng.uniform((10.0, 0.0, 0.0), (60.0, 40.0, 90.0), size=(200, 3))
    tree = grow(rng, np.zeros(3), targets, 0.4, 3.0)
    ends = np.setdiff1d(np.arange(len(tree.nodes)), tree.parent)
    reached = tree.nodes[ends]
    assert len(ends) == len(targets)
    order = (np.lexsort(points.T) for points in (targets, reached))
    np.testing.assert_allclose(targets[next(order)], reached[next(order)], atol=1e-9)
    for node in tree.branchings():
        daughters = np.flatnonzero(tree.parent == node)
        cubes = np.sum(tree.radius_mm[daughters] ** 3)
        assert tree.radius_mm[node] ** 3 == pytest.approx(cubes, rel=1e-9)


@pytest.mark.parametrize("radius", [0.3, 0.8, 2.5, 6.0])
def test_rasterised_tube_has_its_volume(radius):
    axes = (np.arange(0.0, 60.0, 1.5), np.arange(0.0, 50.0, 2.0), np.arange(0.0, 90.0, 2.5))
    start, end = np.array([[20.0, 22.0, 20.0]]), np.array([[38.0, 27.0, 70.0]])
    fraction = rasterise(start, end, np.array([radius]), axes)
    length = np.linalg.norm(end - start)
    expected = np.pi * radius**2 * length
    wide = radius > 0.6 * np.cbrt(1.5 * 2.0 * 2.5)
    expected += wide * 4.0 / 3.0 * np.pi * radius**3  # the round ends of a wide tube
    assert fraction.sum() * 1.5 * 2.0 * 2.5 == pytest.approx(expected, rel=0.08)
    centre = np.array(scipy.ndimage.center_of_mass(fraction)) * (1.5, 2.0, 2.5)
    np.testing.assert_allclose(centre, 0.5 * (start + end)[0], atol=0.15)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"seed": -1}, "seed: expected an integer from 0 on, got -1."),
        ({"shape": (64, 64)}, "shape: expected three numbers of voxels from 16 on, got (64, 64)."),
        ({"shape": (64, 64, 8)}, "shape: expected three numbers of voxels from 16 on"),
        ({"spacing_mm": (1.0, 0.0, 2.0)}, "spacing_mm: expected three positive sizes, got (1.0,"),
        ({"motion": "deep"}, 'motion: expected "4dct", "breath-hold" or 0 to 60 mm, got \'deep\'.'),
        ({"motion": 80.0}, 'motion: expected "4dct", "breath-hold" or 0 to 60 mm, got 80.0.'),
        ({"fixed_phase": "mid"}, 'fixed_phase: expected "inhale" or "exhale", got \'mid\'.'),
        ({"moving_shift_mm": (0.0, np.nan, 0.0)}, "moving_shift_mm: expected three finite numbers"),
    ],
)
def test_bad_arguments_are_named(options, message):
    arguments = {"seed": 0, **options}
    with pytest.raises(ValueError) as error:
        phantom_pair(**arguments)
    assert str(error.value).startswith(message)
