"""What is said of pairs that are right, wrong, or show different things."""

import dataclasses

import numpy as np
import pytest
import scipy.spatial

from jaxreg.config import PrealignmentConfig, RegistrationConfig, TrustConfig, with_method
from jaxreg.engine.gauss_newton import both_show
from jaxreg.engine.prealignment import at_limit
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.lungs.view import cut_fraction
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.align import align
from jaxreg.pipeline.assess import CONTINUED, MEASURED, assess
from jaxreg.pipeline.judge import registration_of_field
from jaxreg.pipeline.registration import register_volumes
from jaxreg.pipeline.stages import optimiser_stage
from jaxreg.trust import findings
from jaxreg.trust.quality import Lung

CONFIG = RegistrationConfig()
CONFIG = dataclasses.replace(CONFIG, grid=dataclasses.replace(CONFIG.grid, shape=(96, 80, 96)))
GOOD = Lung(2000.0, 2400.0, 0.9, 0.97, 0.98, 1.0, 1.0, 0.95)


@pytest.fixture(scope="module")
def pair():
    return phantom_pair(51, shape=(96, 80, 80), motion=10.0)


def assessed(pair, moving, config=CONFIG):
    aligned = align(pair.fixed, moving, config=config)
    u = optimiser_stage(aligned, None, config.optimiser)
    return aligned, np.asarray(u), assess(aligned, u, config=config)


def codes(assessment):
    return {(warning.code, warning.lung) for warning in assessment.warnings}


def filled(pair, part):
    """The moving image with fluid in a part of it."""
    return Volume(np.where(part, np.float32(20.0), pair.moving.data), pair.moving.affine)


@pytest.mark.slow
def test_a_right_pair_is_good_and_nothing_is_said(pair):
    _, _, assessment = assessed(pair, pair.moving)
    assert codes(assessment) == set()
    assert all(lung["quality"] > 0.9 for lung in assessment.lungs.values())
    inside = assessment.valid.data > 0
    assert np.mean(assessment.valid.data[inside] == MEASURED) > 0.93
    assert not assessment.quality.data[~inside].any()


@pytest.mark.slow
def test_a_lung_half_full_of_fluid_is_continued_where_it_is_not_shown(pair):
    left = pair.moving_labels.data > 3
    z = np.indices(left.shape)[2]
    part = left & (z < np.median(z[left]))
    aligned, u, assessment = assessed(pair, filled(pair, part))
    assert codes(assessment) == {("lung-not-shown", "left")}
    assert assessment.lungs["left"]["shown"] < 0.75 < 0.93 < assessment.lungs["right"]["shown"]
    points = aligned.grid.voxel_from_world(pair.fixed_landmarks)
    from scipy import ndimage

    step = [ndimage.map_coordinates(u[..., a], points.T, order=1) for a in range(3)]
    ends = aligned.grid.world_from_voxel(points + np.stack(step, axis=-1))
    ends = ends @ aligned.matrix[:3, :3].T + aligned.matrix[:3, 3]
    affine = pair.fixed_landmarks @ aligned.matrix[:3, :3].T + aligned.matrix[:3, 3]
    errors = np.linalg.norm(ends - pair.moving_landmarks, axis=1)
    places = np.rint(pair.moving.voxel_from_world(pair.moving_landmarks)).astype(int)
    hidden = part[tuple(places.T)]
    assert np.percentile(errors[~hidden], 95) < 1.5
    before = np.linalg.norm(affine - pair.moving_landmarks, axis=1)[hidden].mean()
    assert errors[hidden].mean() < 1.5 * before
    valid = assessment.valid
    places = np.rint(valid.voxel_from_world(pair.fixed_landmarks)).astype(int)
    assert np.mean(valid.data[tuple(places.T)][hidden] == CONTINUED) > 0.8


@pytest.mark.slow
def test_a_lung_that_is_missing_is_named(pair):
    right = (pair.moving_labels.data > 0) & (pair.moving_labels.data < 4)
    _, _, assessment = assessed(pair, filled(pair, right))
    assert ("lung-in-one-image", "right") in codes(assessment)
    assert assessment.lungs["right"]["quality"] < 0.3 < 0.9 < assessment.lungs["left"]["quality"]


@pytest.mark.slow
def test_slices_that_are_missing_in_a_scan_are_noticed_in_either_direction(pair):
    """30 mm are left out of the middle of the lungs, and the rest is put together.

    The quality is lower beside that place, and only there.
    """
    voxels = round(30.0 / pair.moving.spacing_mm[2])
    first = pair.moving.shape[2] // 2 - voxels // 2
    data = np.delete(pair.moving.data, np.s_[first : first + voxels], axis=2)
    short = Volume(data, pair.moving.affine)
    for images in ((pair.fixed, short), (short, pair.fixed)):
        aligned = align(*images, config=CONFIG)
        u = optimiser_stage(aligned, None, CONFIG.optimiser)
        found = assess(aligned, u, config=CONFIG)
        assert ("slice-jump", None) in codes(found)
        whole = dataclasses.replace(CONFIG, trust=TrustConfig(beside_jump=1.0))
        ratio = found.quality.data / np.maximum(assess(aligned, u, config=whole).quality.data, 1e-3)
        lowest = np.where(found.quality.data > 0, ratio, 1.0).min(axis=(0, 1))
        assert lowest.min() == pytest.approx(0.7, abs=0.01)
        assert 0.1 < np.mean(lowest < 0.99) < 0.6


@pytest.mark.slow
def test_another_person_is_doubted_in_both_lungs(pair):
    other = phantom_pair(52, shape=(96, 80, 80), motion=10.0)
    _, _, assessment = assessed(pair, other.moving, RegistrationConfig())
    assert {("images-disagree", "right"), ("images-disagree", "left")} <= codes(assessment)
    assert all(lung["quality"] < 0.6 for lung in assessment.lungs.values())


def test_a_linear_map_alone_is_not_asked_whether_the_images_agree(pair):
    affine = with_method(CONFIG, "affine")
    aligned = align(pair.fixed, pair.moving, config=affine)
    still = np.zeros((*aligned.grid.shape, 3), np.float32)
    assert assess(aligned, still, config=affine).warnings == ()
    noise = np.random.default_rng(0).normal(-850.0, 100.0, aligned.fixed.shape)
    other = dataclasses.replace(aligned, moving=noise.astype(np.float32))
    said = assess(other, still, config=affine).warnings
    assert "images-disagree" not in {doubt.code for doubt in said}
    said = assess(other, still, config=CONFIG).warnings
    assert "images-disagree" in {doubt.code for doubt in said}


def test_a_grid_of_odd_shape_says_the_same(pair):
    """But for the resolution, which differs a little."""
    shape = tuple(n + 1 for n in CONFIG.grid.shape)
    odd = dataclasses.replace(CONFIG, grid=dataclasses.replace(CONFIG.grid, shape=shape))
    found = []
    for config in (CONFIG, odd):
        aligned = align(pair.fixed, pair.moving, config=config)
        still = np.zeros((*aligned.grid.shape, 3), np.float32)
        found.append(assess(aligned, still, config=config))
    for name, lung in found[0].lungs.items():
        assert found[1].lungs[name] == pytest.approx(lung, abs=0.05)
    assert np.mean(found[0].valid.data != found[1].valid.data) < 0.01


def test_the_rim_of_lungs_that_agree_counts_as_measured(pair):
    aligned = align(pair.fixed, pair.fixed, config=CONFIG)
    still = np.zeros((*aligned.grid.shape, 3), np.float32)
    assessment = assess(aligned, still, config=CONFIG)
    inside = assessment.valid.data > 0
    assert np.array_equal(inside, aligned.masks[0].data > 0)
    assert np.mean(assessment.valid.data[inside] == MEASURED) > 0.999
    assert assessment.quality.data[inside].min() > 0.9


@pytest.mark.slow
def test_a_field_of_any_tool_is_judged_as_a_registration_is(pair):
    own = register_volumes(pair.fixed, pair.moving, config=CONFIG)
    judged = registration_of_field(own.displacement, pair.fixed, pair.moving, config=CONFIG)
    assert judged.warnings == []
    for name in ("right", "left"):
        found, wanted = (r.summary["lungs"][name]["quality"] for r in (judged, own))
        assert found == pytest.approx(wanted, abs=0.02) and wanted > 0.9
    for name in ("correlation_before", "correlation_after"):
        assert judged.summary[name] == pytest.approx(own.summary[name], abs=0.01)
    for shift_mm, code in ((25.0, "images-disagree"), (400.0, "not-compared")):
        data = own.displacement.data + np.float32([0, 0, shift_mm])
        wrong = DisplacementField(data, pair.fixed.affine)
        judged = registration_of_field(wrong, pair.fixed, pair.moving, config=CONFIG)
        said = {(w["code"], w["lung"]) for w in judged.warnings}
        assert {(code, "right"), (code, "left")} <= said
        assert max(lung["quality"] for lung in judged.summary["lungs"].values()) < 0.5


@pytest.mark.slow
def test_a_header_that_exchanges_head_and_feet_is_named(pair):
    flip = np.diag([1.0, 1.0, -1.0, 1.0])
    flip[2, 3] = 2 * pair.moving.world_from_voxel(np.array(pair.moving.shape) / 2)[2]
    _, _, assessment = assessed(pair, Volume(pair.moving.data, flip @ pair.moving.affine))
    said = [w.text for w in assessment.warnings if w.code == "orientation"]
    assert len(said) == 1 and "head and feet exchanged" in said[0]


def test_weights_are_the_explicit_mean_of_the_difference():
    rng = np.random.default_rng(0)
    fixed, moving = (rng.random((7, 9, 8)) > 0.5 for _ in range(2))
    found = np.asarray(both_show(fixed * np.float32(1), moving * np.float32(1), radius=1))
    for x, y, z in ((0, 0, 0), (3, 4, 2), (6, 8, 7), (2, 0, 5)):
        box = tuple(slice(max(i - 1, 0), i + 2) for i in (x, y, z))
        apart = np.mean(fixed[box] != moving[box])
        assert found[x, y, z] == pytest.approx(np.clip(2 - 4 * apart, 0, 1), abs=1e-5)


def test_lungs_apart_by_less_than_a_quarter_of_the_window_count_in_full():
    fixed, near, far = np.zeros((3, 30, 12, 12), np.float32)
    fixed[:15], near[:17], far[:24] = 1, 1, 1
    assert np.all(np.asarray(both_show(fixed, near, radius=4)) == 1)
    weight = np.asarray(both_show(fixed, far, radius=4))
    assert np.all(weight[17:22] == 0) and np.all(weight[:8] == 1)


@pytest.mark.parametrize("padding", [-2048.0, -1024.0, -1000.0])
def test_share_of_the_surface_where_a_scan_ends(padding):
    data = np.full((20, 16, 12), -50.0, np.float32)
    data[:2], data[-2:], data[:, :2], data[:, -2:] = (padding,) * 4
    mask = np.zeros(data.shape, np.uint8)
    mask[2:10, 4:10, 0:6] = 1  # ends at the padding and at the first slice
    faces = 2 * (8 * 6 + 6 * 6 + 8 * 6)
    fraction = cut_fraction(Volume(data, np.eye(4)), Volume(mask, np.eye(4)))
    assert fraction == pytest.approx((6 * 6 + 8 * 6) / faces)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"agreement": 0.3}, "images-disagree"),
        ({"quality": 0.5}, "low-quality"),
        ({"quality": 0.5, "agreement": 0.3}, "images-disagree"),
        ({"quality": 0.6, "shown": 0.78, "in_view": 0.8}, None),
        ({"shown": 0.7}, "lung-not-shown"),
        ({"shown": 0.7, "in_view": 0.75}, None),
        ({"covered": 0.5}, "lung-not-shown"),
        ({"covered": 0.5, "moving_in_view": 0.55}, None),
        ({"moving_ml": 12_000.0}, "volume-change"),
        ({"shown": 0.05, "agreement": 0.0, "moving_ml": 0.0, "quality": 0.01}, None),
        ({"shown": 0.05, "agreement": 0.0, "in_view": 0.05}, "not-compared"),
    ],
)
def test_what_is_said_of_one_lung(change, code):
    said = list(findings.doubts_of_lungs({"left": GOOD._replace(**change)}))
    assert [(doubt.code, doubt.lung) for doubt in said] == ([(code, "left")] if code else [])
    assert all("Look at" in d.text or "looked at" in d.text for d in said)


def lungs(voxels, spacing_mm=2.0, sides=(1, 2)):
    data = np.zeros((40, 40, 40), np.uint8)
    data.ravel()[: voxels // 2], data.ravel()[-(voxels // 2) :] = sides
    return Volume(data, np.diag([spacing_mm] * 3 + [1.0]))


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ((lungs(40_000), lungs(40_000)), set()),
        ((lungs(40_000), lungs(40_000, 20.0)), {"implausible-lungs"}),
        ((lungs(2), lungs(40_000)), {"implausible-lungs", "few-voxels"}),
        ((lungs(40_000, sides=(1, 1)), lungs(40_000)), {"lung-in-one-image"}),
    ],
)
def test_what_is_said_of_masks(masks, expected):
    assert {doubt.code for doubt in findings.doubts_of_masks(masks)} == expected


@pytest.mark.parametrize(
    ("cut", "named"),
    [((0.0, 0.01), None), ((0.0, 0.1), "moving"), ((0.1, 0.0), "fixed"), ((0.17, 0.2), None)],
)
def test_a_scan_that_ends_within_the_lungs_is_named_unless_both_do(cut, named):
    said = [doubt.text for doubt in findings.doubt_of_view(cut)]
    assert [text.split()[1] for text in said] == ([named] if named else [])


def test_a_fall_of_the_correlation_is_told():
    assert not list(findings.doubt_of_correlation(0.5, 0.46))
    (doubt,) = findings.doubt_of_correlation(0.5, 0.4)
    assert doubt.code == "correlation-fell" and "from 0.50 to 0.40" in doubt.text


def test_parts_of_a_map_at_their_bounds_are_named():
    config = PrealignmentConfig()
    stretched = np.diag([1.0, 1.0, np.exp(config.largest_log_scale), 1.0])
    assert at_limit(stretched, config) == ["scale"]
    assert at_limit(np.diag([1.0, 1.0, 1.2, 1.0]), config) == []
    (doubt,) = findings.doubt_of_prealignment(["scale"])
    assert "(scale)" in doubt.text and not list(findings.doubt_of_prealignment([]))


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ((1.05, 1.15, 1.5), []),  # a deep breath
        ((0.95, 0.85, 0.6), []),
        ((1.3, 1.0, 1.0), ["1.30 times as long from right to left"]),
        ((1.0, 0.7, 1.0), ["0.70 times as long from front to back"]),
        ((1.4, 1.4, 1.0), ["1.40 times as long from right", "1.40 times as long from front"]),
    ],
)
def test_lungs_that_get_wider_or_deeper_than_respiration_makes_them(scale, words):
    turn = scipy.spatial.transform.Rotation.from_rotvec([0.1, -0.2, 0.5]).as_matrix()
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag(scale)
    matrix[:3, 3] = [30.0, -50.0, 400.0]
    doubts = list(findings.doubt_of_stretch(matrix))
    assert [doubt.code for doubt in doubts] == ["stretched"] * len(words)
    assert all(word in doubt.text for word, doubt in zip(words, doubts, strict=True))


def test_settings_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match="trust.stretch: expected two factors of at least 1, got"):
        TrustConfig(stretch=(1.1, 0.9))
    with pytest.raises(ValueError, match="trust.beside_jump: expected 0 to 1, got 2"):
        TrustConfig(beside_jump=2.0)
    with pytest.raises(ValueError, match="trust.least_quality: expected 0 to 1, got -0.1"):
        TrustConfig(least_quality=-0.1)
    with pytest.raises(ValueError, match="trust.window_hu: expected"):
        TrustConfig(window_hu=(0.0, -1000.0))


def test_an_image_registered_to_itself_is_told(pair):
    result = register_volumes(pair.fixed, pair.fixed, method="initial", config=CONFIG)
    assert [warning["code"] for warning in result.warnings] == ["same-image"]
    other = np.array(pair.fixed.data)
    other[-1, -1, -1] += 1.0
    assert not list(findings.doubt_of_same_image(pair.fixed, Volume(other, pair.fixed.affine)))
    assert not list(findings.doubt_of_same_image(pair.fixed, pair.moving))


def test_what_is_said_hardly_depends_on_the_lung_grid(pair):
    """Correlations rise with the size of the voxels, so the pair is brought to one grid first."""
    trust = dataclasses.replace(CONFIG.trust, shape=(96, 80, 96))
    found = []
    for shape in ((96, 80, 96), (80, 64, 72), (112, 96, 104)):
        grid = dataclasses.replace(CONFIG.grid, shape=None, shapes=(shape,))
        config = dataclasses.replace(CONFIG, grid=grid, trust=trust)
        aligned = align(pair.fixed, pair.moving, config=config)
        assert aligned.fixed.shape == shape
        still = np.zeros((*shape, 3), np.float32)
        found.append(assess(aligned, still, config=config).lungs)
        assert set(found[-1]) == {"right", "left"}
    for lungs in found[1:]:
        for name, lung in lungs.items():
            assert lung["agreement"] == pytest.approx(found[0][name]["agreement"], abs=0.04)
            assert lung["shown"] == pytest.approx(found[0][name]["shown"], abs=0.01)


def test_a_resized_pair_has_its_values_where_they_were(pair):
    aligned = align(pair.fixed, pair.moving, config=CONFIG)
    world = aligned.grid.world_from_voxel(np.moveaxis(np.indices(aligned.grid.shape), 0, -1))
    ramps = {"fixed": world[..., 0], "moving": world @ [0.2, -0.3, 0.5]}
    aligned = dataclasses.replace(aligned, **{k: v.astype(np.float32) for k, v in ramps.items()})
    finer = aligned.resized((101, 83, 97))
    assert finer.grid.shape == finer.fixed.shape == finer.fixed_lungs.shape == (101, 83, 97)
    inner = (slice(2, -2),) * 3
    world = finer.grid.world_from_voxel(np.moveaxis(np.indices(finer.grid.shape), 0, -1))
    np.testing.assert_allclose(finer.fixed[inner], world[..., 0][inner], atol=1e-2)
    np.testing.assert_allclose(finer.moving[inner], (world @ [0.2, -0.3, 0.5])[inner], atol=1e-2)
    voxels = np.rint(aligned.grid.voxel_from_world(world) - 1e-6).astype(int)
    expected = aligned.fixed_lungs[tuple(np.moveaxis(voxels, -1, 0))]
    assert np.mean(finer.fixed_lungs != expected) < 1e-3  # ties
