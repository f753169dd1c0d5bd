import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import SimpleITK as sitk

import jaxreg
from jaxreg.config import (
    METHODS,
    CascadeConfig,
    CertificateConfig,
    LungGridConfig,
    NetworkConfig,
    RegistrationConfig,
    override,
    registration_from_dict,
)
from jaxreg.geometry.lung_grid import points_on_grid
from jaxreg.geometry.volume import DisplacementField, Volume, resample
from jaxreg.io.nifti import read_displacement, read_volume, write_volume
from jaxreg.io.points import Landmarks, read_landmarks
from jaxreg.network.cascade import init_level
from jaxreg.network.weights import load_named
from jaxreg.ops.deformation import transform_points
from jaxreg.ops.jacobian import fold_count, jacobian_determinant
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.align import align
from jaxreg.pipeline.certify import certified
from jaxreg.pipeline.keypoints import match_volumes
from jaxreg.pipeline.registration import register, register_volumes
from jaxreg.pipeline.stages import cascade_stage

CONFIG = NetworkConfig(grid=(16, 16, 16), levels=2, widths=(3, 5), convs=1)
SHAPE = (19, 14, 17)
SETTINGS = RegistrationConfig(grid=LungGridConfig((72, 56, 64)))  # for speed
NETWORKS = dataclasses.replace(SETTINGS, network=CascadeConfig(architecture=CONFIG))


@pytest.fixture(scope="module")
def params():
    """A cascade of random kernels with a large head, so that it moves something.

    Of NumPy: the program that draws an untrained one takes ten seconds to compile.
    """
    rng = np.random.default_rng(0)

    def drawn(path, leaf):
        name = jax.tree_util.keystr(path)
        if "kernel" not in name:
            return np.full(leaf.shape, "scale" in name, np.float32)
        size = 0.58 if "head" in name else np.sqrt(2.0 / np.prod(leaf.shape[:-1]))
        return size * rng.normal(size=leaf.shape).astype(np.float32)

    shapes = jax.eval_shape(lambda: init_level(jax.random.key(0), CONFIG))
    return jax.tree_util.tree_map_with_path(drawn, {f"level_{i}": shapes for i in (1, 2)})


def images(seed):
    rng = np.random.default_rng(seed)
    return (rng.normal(-600.0, 300.0, (2, *SHAPE))).astype(np.float32)


def test_register_returns_voxels_of_the_images_grid_under_jit(params):
    fixed, moving = images(0)
    u = jax.jit(lambda f, m: register(f, m, params=params, config=CONFIG))(fixed, moving)
    assert u.shape == (*SHAPE, 3) and u.dtype == jnp.float32
    assert 1e-3 < float(jnp.abs(u).max()) < 20.0
    again = jax.jit(lambda f, m: register(f, m, params=params, config=CONFIG))(fixed, moving)
    assert np.array_equal(u, again)


def test_register_under_vmap_equals_one_by_one(params):
    fixed, moving = np.stack([images(1)[0], images(2)[0]]), np.stack([images(1)[1], images(2)[1]])

    def run(f, m):
        return register(f, m, params=params, config=CONFIG)

    batched = jax.jit(jax.vmap(run))(fixed, moving)
    for i in range(2):
        single = jax.jit(run)(fixed[i], moving[i])
        assert np.allclose(batched[i], single, atol=1e-4)


def test_gradient_through_register_equals_a_finite_difference(params):
    fixed, moving = images(3)
    direction = np.random.default_rng(4).normal(size=SHAPE).astype(np.float32)

    @jax.jit
    def size(step):
        u = register(fixed, moving + step * direction, params=params, config=CONFIG)
        return jnp.mean(u**2)

    slope = float(jax.jit(jax.grad(size))(0.0))
    h = 2.0  # HU: small beside the image, large beside float32 rounding
    assert slope != 0.0
    assert slope == pytest.approx(float(size(h) - size(-h)) / (2 * h), rel=0.05)


def test_register_refuses_two_grids():
    with pytest.raises(ValueError, match=r"share a grid .*\(19, 14, 17\) and \(4, 14, 17\)"):
        register(images(0)[0], images(0)[1][:4], params={}, config=CONFIG)


@pytest.fixture(scope="module")
def pair():
    """A phantom in two breath-holds, 5 mm voxels, patient shifted by 40 mm."""
    return phantom_pair(
        7,
        shape=(72, 56, 64),
        spacing_mm=(5.0, 5.0, 5.0),
        moving_shift_mm=(40.0, -10.0, 25.0),
        motion="breath-hold",
    )


def landmark_error(result, pair):
    mapped = result.map_points(pair.fixed_landmarks)
    return np.linalg.norm(mapped - pair.moving_landmarks, axis=1).mean()


@pytest.fixture(scope="module")
def classical(pair):
    config = dataclasses.replace(SETTINGS, inverse_consistency=True)
    return register_volumes(pair.fixed, pair.moving, config=config)


@pytest.fixture(scope="module")
def affine(pair):
    return register_volumes(pair.fixed, pair.moving, method="affine", config=SETTINGS)


@pytest.fixture(scope="module")
def cascaded(pair, params):
    return register_volumes(
        pair.fixed, pair.moving, method="cascade", params=params, config=NETWORKS
    )


def test_every_method_without_weights_reduces_the_error(pair, affine, classical):
    initial = register_volumes(pair.fixed, pair.moving, method="initial", config=SETTINGS)
    results = {"initial": initial, "affine": affine, "classical": classical}
    errors = {method: landmark_error(result, pair) for method, result in results.items()}
    assert errors["initial"] > 20.0
    assert errors["affine"] < 0.3 * errors["initial"]
    assert errors["classical"] < 0.65 * errors["affine"], errors  # of voxels of 5 mm


def test_a_coarser_field_is_certified_and_maps_points_as_the_fine_one(pair, affine, classical):
    """The other images keep the grid of the fixed one; the linear part is exact everywhere."""
    coarse = dataclasses.replace(SETTINGS, field_spacing_mm=12.0)
    inside = np.argwhere(pair.fixed_labels.data > 0)[::7] + 0.3
    points = pair.fixed.world_from_voxel(inside)
    for method, fine, largest_mm in (("affine", affine, 1e-3), ("classical", classical, 0.1)):
        found = register_volumes(pair.fixed, pair.moving, method=method, config=coarse)
        field = found.displacement
        assert 8.0 < min(field.spacing_mm) and max(field.spacing_mm) <= 12.0
        assert found.summary["certificate"]["uncertified"] == 0
        apart = np.linalg.norm(found.map_points(points) - fine.map_points(points), axis=-1)
        assert apart.mean() < largest_mm
        for image in (found.warp(), found.jacobian_determinant(), found.quality):
            assert image.grid.matches(pair.fixed.grid)
        own = fine.jacobian_determinant().data[pair.fixed_labels.data > 0]
        ours = found.jacobian_determinant().data[pair.fixed_labels.data > 0]
        assert abs(own - ours).mean() < (1e-4 if method == "affine" else 0.1)


def test_cascade_method_uses_the_params_given(pair, params, affine, cascaded):
    zero = jax.tree.map(jnp.zeros_like, params)
    still = register_volumes(
        pair.fixed, pair.moving, method="cascade", params=zero, config=NETWORKS
    )
    assert np.allclose(still.displacement.data, affine.displacement.data, atol=1e-3)
    assert np.abs(cascaded.displacement.data - affine.displacement.data).max() > 0.1
    assert cascaded.summary["certificate"]["uncertified"] == 0


def test_full_ends_where_classical_does(pair, classical, cascaded, params):
    """Whatever the networks say: why classical, which needs no network, is the default.

    The start is as rough as a start can be: of untrained networks whose output is a hundred times
    too large. Twice, the second time with 64-bit types switched on, which changes no bit.
    """
    full = register_volumes(pair.fixed, pair.moving, method="full", params=params, config=NETWORKS)
    assert full.summary["method"] == "full"
    assert {"cascade", "optimiser"} <= set(full.seconds)
    with jax.enable_x64(True):
        again = register_volumes(
            pair.fixed, pair.moving, method="full", params=params, config=NETWORKS
        )
    assert again.displacement.data.dtype == np.float32
    np.testing.assert_array_equal(again.displacement.data, full.displacement.data)
    lungs = pair.fixed_labels.data > 0

    def distance(a, b):  # mm, mean over the lungs
        difference = a.displacement.data[lungs] - b.displacement.data[lungs]
        return np.linalg.norm(difference, axis=-1).mean()

    assert distance(full, classical) < 0.1 < 1.0 < distance(cascaded, classical)
    assert landmark_error(full, pair) < 1.1 * landmark_error(classical, pair)


def test_summary_says_what_was_done(classical):
    summary = json.loads(json.dumps(classical.summary))  # plain numbers and words only
    assert summary["method"] == "classical"
    assert summary["correlation_after"] > summary["correlation_before"]
    certificate = summary["certificate"]
    assert set(certificate) == {"cells", "voxels", "largest_change_mm", "uncertified", "smallest"}
    assert certificate["uncertified"] == 0 and certificate["smallest"] >= 0.9e-3
    assert set(summary["seconds"]) >= {"masks", "prealignment", "optimiser", "certificate"}
    assert set(summary["versions"]) == {"jaxreg", "jax", "python", "device"}


def test_the_certificate_is_that_of_the_field_that_is_written():
    """A push of 2.4 mm in voxels of 2 mm folds the four cells on that side of it."""
    affine, data = np.diag([2.0, 2.0, 2.0, 1.0]), np.zeros((8, 7, 6, 3), np.float32)
    field = DisplacementField(data, affine)
    same, found = certified(field, CertificateConfig())
    assert same is field
    assert found == {
        **{"cells": 0, "voxels": 0, "largest_change_mm": 0.0},
        **{"uncertified": 0, "smallest": 1.0},
    }
    data = np.zeros_like(data)
    data[3, 3, 3, 2] = 2.4
    field = DisplacementField(data, affine)
    same, found = certified(field, CertificateConfig(enabled=False))
    assert same is field and found["uncertified"] == 4 and found["smallest"] < 0
    for margin in (1e-3, 0.2):
        other, found = certified(field, CertificateConfig(margin=margin))
        change = np.linalg.norm(other.data - field.data, axis=-1)
        assert found["cells"] >= 4 and found["uncertified"] == 0
        assert found["smallest"] >= 0.9 * margin
        assert found["voxels"] == np.count_nonzero(change > 1e-6)
        assert found["largest_change_mm"] == pytest.approx(change.max(), rel=1e-5)


def test_inverse_consistency_error_is_greater_where_the_error_is(pair, classical):
    error = np.linalg.norm(classical.displacement.data - pair.displacement.data, axis=-1)
    lungs = pair.fixed_labels.data > 0
    residual = classical.inverse_consistency.data[lungs]
    assert np.median(residual) < 2.0  # voxels of 5 mm
    assert scipy.stats.spearmanr(residual, error[lungs])[0] > 0.3
    upper = residual > np.percentile(residual, 90)
    lower = residual < np.percentile(residual, 50)
    assert error[lungs][upper].mean() > 1.5 * error[lungs][lower].mean()
    lungs = classical.valid.data == 1
    told = classical.summary["inverse_consistency_mm"]
    assert told["95"] == pytest.approx(np.percentile(classical.inverse_consistency.data[lungs], 95))
    assert any("inverse-consistency error" in line for line in classical.lines())


def test_the_way_back_of_a_linear_map_is_exact(pair, params):
    zero = jax.tree.map(jnp.zeros_like, params)
    config = override(NETWORKS, "optimiser.enabled=false")
    config = override(override(config, "network.enabled=true"), "inverse_consistency=true")
    result = register_volumes(pair.fixed, pair.moving, params=zero, config=config)
    assert result.summary["method"] == "cascade"
    assert result.inverse_consistency is not None
    assert result.inverse_consistency.data[pair.fixed_labels.data > 0].max() < 5e-3
    config = override(config, "inverse_consistency=false")
    result = register_volumes(pair.fixed, pair.moving, params=zero, config=config)
    assert result.inverse_consistency is None


@pytest.mark.slow
def test_the_summary_alone_reproduces_a_run(pair):
    config = override(RegistrationConfig(), "grid.shape=[64, 56, 72]")
    config = override(config, "optimiser.coarsest=40")  # one level, for speed
    config = override(override(config, "optimiser.smoothness=0.5"), "optimiser.radius=3")
    first = register_volumes(pair.fixed, pair.moving, config=config)
    told = json.loads(json.dumps(first.summary))["config"]
    again = register_volumes(pair.fixed, pair.moving, config=registration_from_dict(told))
    assert np.array_equal(first.displacement.data, again.displacement.data)
    other = register_volumes(
        pair.fixed, pair.moving, config=override(config, "optimiser.smoothness=5")
    )
    assert np.abs(first.displacement.data - other.displacement.data).max() > 0.1


def test_stages_are_told_while_they_run(pair):
    stages = []
    register_volumes(
        pair.fixed, pair.moving, method="affine", config=SETTINGS, progress=stages.append
    )
    assert stages == ["masks", "prealignment", "resampling", "certificate", "quality", "measures"]


def test_the_shape_of_the_grid_is_told_before_the_prealignment():
    """The scans lie far apart in the world; there are two shapes to choose between."""
    pair = phantom_pair(8, shape=(64, 56, 60))
    affine = pair.moving.affine.copy()
    affine[:3, 3] += (150.0, -80.0, 300.0)
    moving = Volume(pair.moving.data, affine)
    for shapes in (((40, 32, 40), (200, 160, 200)), ((96, 80, 96), (104, 88, 104))):
        grid = LungGridConfig(shapes=shapes)
        told = []
        config = dataclasses.replace(SETTINGS, grid=grid)
        found = align(pair.fixed, moving, config=config, prepare=told.append)
        assert told == [found.grid.shape]


def test_inverse_brings_landmarks_back(pair, classical):
    inverse, error = classical.inverse()
    back = inverse.transform_points(classical.map_points(pair.fixed_landmarks))
    assert np.linalg.norm(back - pair.fixed_landmarks, axis=1).max() < 0.2
    assert inverse.shape == pair.moving.shape
    lungs = pair.moving_labels.data > 0
    assert error.data[lungs].max() < 0.05


def test_labels_are_warped_without_new_values(pair, classical):
    warped = classical.warp_labels(pair.moving_labels)
    assert set(np.unique(warped.data)) <= set(range(6))
    same = (warped.data > 0) & (pair.fixed_labels.data > 0)
    either = (warped.data > 0) | (pair.fixed_labels.data > 0)
    assert same.sum() / either.sum() > 0.85


ORIENTATIONS = {
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "RAS": np.eye(3),
    "oblique": np.array([[0.96, 0.28, 0.0], [-0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    @ np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
}


def turned(volume, rotation, spacing, shape):
    """The volume on a grid with axes `rotation`, around the same middle."""
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.array(spacing)
    middle = volume.world_from_voxel((np.array(volume.shape) - 1) / 2)
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return resample(volume, affine, shape, fill=-1024.0)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_written_field_means_the_same_to_itk(name, pair, tmp_path):
    rotation = ORIENTATIONS[name]
    fixed = turned(pair.fixed, rotation, (6.0, 5.0, 7.0), (64, 68, 62))
    moving = turned(pair.moving, ORIENTATIONS["LPS"], (5.5, 6.0, 5.0), (70, 54, 66))
    result = register_volumes(fixed, moving, method="affine", config=SETTINGS)
    # a deformation on top, so that the field is not affine
    wave = np.sin(np.indices((*fixed.shape, 3)).sum(axis=0) / 9.0).astype(np.float32)
    field = DisplacementField(result.displacement.data + 4.0 * wave, fixed.affine)
    result = dataclasses.replace(result, displacement=field)
    assert landmark_error(result, pair) < 8.0  # whichever way the axes run
    result.save(tmp_path)

    written = sitk.ReadImage(str(tmp_path / "displacement.nii.gz"))
    transform = sitk.DisplacementFieldTransform(sitk.Cast(written, sitk.sitkVectorFloat64))
    lps = np.array([-1.0, -1.0, 1.0])
    for point, ours in zip(
        pair.fixed_landmarks[:40], result.map_points(pair.fixed_landmarks[:40]), strict=True
    ):
        theirs = np.array(transform.TransformPoint((point * lps).tolist())) * lps
        assert np.allclose(theirs, ours, atol=1e-3)

    write_volume(tmp_path / "moving.nii.gz", moving)
    image = sitk.Cast(sitk.ReadImage(str(tmp_path / "moving.nii.gz")), sitk.sitkFloat32)
    reference = sitk.ReadImage(str(tmp_path / "warped.nii.gz"))
    transform = sitk.DisplacementFieldTransform(sitk.Cast(written, sitk.sitkVectorFloat64))
    theirs = sitk.Resample(image, reference, transform, sitk.sitkLinear, -1024.0)
    theirs = sitk.GetArrayFromImage(theirs).transpose(2, 1, 0)
    ours = read_volume(tmp_path / "warped.nii.gz").data
    # float32 coordinates: 1e-3 voxel where neighbours differ by 1000 HU; the rim rounds either way
    assert np.mean(np.abs(ours - theirs) > 2.0) < 1e-3


def test_saved_files_are_read_back(classical, tmp_path):
    classical.save(tmp_path / "new" / "folder")
    names = {p.name for p in (tmp_path / "new" / "folder").iterdir()}
    assert names == {
        *("warped.nii.gz", "displacement.nii.gz", "jacobian.nii.gz", "report.png", "summary.json"),
        *("inverse_consistency.nii.gz", "quality.nii.gz", "valid.nii.gz"),
    }
    field = read_displacement(tmp_path / "new" / "folder" / "displacement.nii.gz")
    assert np.allclose(field.data, classical.displacement.data, atol=1e-4)
    error = read_volume(tmp_path / "new" / "folder" / "inverse_consistency.nii.gz")
    assert np.allclose(error.data, classical.inverse_consistency.data, atol=1e-4)
    jacobian = read_volume(tmp_path / "new" / "folder" / "jacobian.nii.gz")
    assert np.allclose(jacobian.data, classical.jacobian_determinant().data, atol=1e-4)


@pytest.mark.slow
def test_development_pair_is_registered_to_half_a_millimetre(shared):
    """The default method, no mask given; the best peer has 0.68 mm."""
    folder = shared / "data" / "cip64_m2"
    fixed, moving = (read_volume(folder / f"{name}.nii.gz") for name in ("fixed", "moving"))
    result = register_volumes(fixed, moving)
    points = read_landmarks(folder / "landmarks.csv", space="LPS")
    error = np.linalg.norm(result.map_points(points.fixed) - points.moving, axis=1)
    vessel = points.kind == "vessel"
    assert error[vessel].mean() < 0.5 and np.percentile(error[vessel], 95) < 1.0
    assert error[~vessel].mean() < 0.7
    assert result.summary["method"] == "classical"
    assert result.summary["certificate"]["uncertified"] == 0


@pytest.mark.slow
def test_the_papers_networks_halve_the_affine_error_of_a_development_pair(shared):
    """Which no training has seen; no mask given."""
    folder = shared / "data" / "cip64_m2"
    fixed, moving = (read_volume(folder / f"{name}.nii.gz") for name in ("fixed", "moving"))
    pair = align(fixed, moving)
    params, network = load_named("paper")
    u = np.asarray(cascade_stage(pair, params, network, SETTINGS.optimiser))
    points = read_landmarks(folder / "landmarks.csv", space="LPS")
    start = points_on_grid(points.fixed, pair.grid)
    goal = points_on_grid(points.moving, pair.grid, matrix=pair.matrix)
    errors_mm = [
        np.linalg.norm((ends - goal) * pair.spacing_mm, axis=1).mean()
        for ends in (start, np.asarray(transform_points(u, start)))
    ]
    assert errors_mm[1] < 0.5 * errors_mm[0], errors_mm
    assert not fold_count(jacobian_determinant(u), pair.fixed_lungs > 0)


def cube(value=1, shape=(20, 22, 24)):
    data = np.zeros(shape, np.uint8)
    data[5:10, 6:15, 7:17] = value
    return Volume(data, np.diag([5.0, 5.0, 5.0, 1.0]))


def noise_ct(shape=(20, 22, 24)):
    data = np.random.default_rng(0).normal(-700.0, 100.0, shape)
    return Volume(data, np.diag([5.0, 5.0, 5.0, 1.0]))


def alike(values):
    """Other values on the grid of `noise_ct`."""
    return Volume(np.broadcast_to(values, noise_ct().shape), noise_ct().affine)


def beside(volume):
    affine = volume.affine.copy()
    affine[0, 3] += 500.0
    return Volume(volume.data, affine)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "best"}, "method: expected one of initial, affine, .*, got 'best'"),
        (
            {"method": "affine", "config": RegistrationConfig(inverse_consistency=True)},
            "inverse_consistency: expected a method that deforms",
        ),
        ({"fixed": alike(-700.0)}, "fixed: expected a CT image"),
        ({"moving": alike(noise_ct().data + 1000.0)}, "moving: expected Hounsfield"),
        ({"fixed_mask": cube(0)}, "fixed_mask: expected lungs, got no voxel above 0"),
        ({"moving_mask": beside(cube())}, "moving_mask: expected labels that overlap with the"),
        ({"fixed_mask": None}, "fixed: "),  # noise has no lungs
    ],
)
def test_bad_input_is_refused_in_words(change, words):
    given = {
        "fixed": noise_ct(),
        "moving": noise_ct(),
        "fixed_mask": cube(),
        "moving_mask": cube(),
    } | change
    with pytest.raises(ValueError, match=words):
        register_volumes(given.pop("fixed"), given.pop("moving"), **given)


def test_keypoints_of_the_phantom_lie_where_its_truth_says(pair):
    config = RegistrationConfig(grid=LungGridConfig((96, 80, 96)))  # for speed
    points = match_volumes(pair.fixed, pair.moving, config=config)
    assert len(points.fixed) > 300 and set(points.kind) == {"keypoint"}
    error = np.linalg.norm(pair.displacement.transform_points(points.fixed) - points.moving, axis=1)
    assert np.median(error) < 2.5, np.median(error)  # half a voxel
    assert np.mean(error > 10.0) < 0.05
    with jax.enable_x64(True):
        again = match_volumes(pair.fixed, pair.moving, config=config)
    np.testing.assert_array_equal(again.fixed, points.fixed)
    np.testing.assert_array_equal(again.moving, points.moving)


def test_images_without_a_common_place_are_refused(monkeypatch):
    image, mask = noise_ct(), cube()
    flat = Volume(np.where(mask.data > 0, -700.0, -1000.0), mask.affine)
    none = Landmarks(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, str))
    monkeypatch.setattr("jaxreg.pipeline.keypoints.pair_keypoints", lambda *_, **__: none)
    with pytest.raises(ValueError, match="expected lungs of one subject, got images in which"):
        match_volumes(image, flat, fixed_mask=mask, moving_mask=mask)


def test_public_names_are_there():
    assert set(METHODS) == {"initial", "affine", "cascade", "classical", "full"}
    assert all(getattr(jaxreg, name) is not None for name in jaxreg.__all__)
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = jaxreg.nothing


def test_a_pair_of_another_size_needs_no_new_program(tmp_path):
    """Nor do its files and its picture: the next patient is not waited for."""
    pairs = [phantom_pair(7, shape=shape) for shape in ((64, 56, 60), (70, 50, 64))]
    compiled = []

    def note(event, seconds, **about):
        if event.endswith("backend_compile_duration"):
            compiled.append(about)

    def run(pair):
        register_volumes(pair.fixed, pair.moving, config=SETTINGS).save(tmp_path)

    run(pairs[0])
    jax.monitoring.register_event_duration_secs_listener(note)
    run(pairs[1])
    assert compiled == []
    jax.jit(lambda x: x + 1)(np.arange(7))  # what is compiled is noted
    assert len(compiled) == 1
