"""Properties of random inputs: round trips, laws of composition, references on random shapes.

Few examples, the same in every run (the profile in conftest.py).
"""

import re
import tempfile
from pathlib import Path

import jax
import numpy as np
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from jaxreg.benchmark.table import markdown
from jaxreg.config import Config, LossConfig, NetworkConfig, TrainingConfig, from_json, to_json
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io import nifti
from jaxreg.io.images import read_image
from jaxreg.io.points import Landmarks, read_landmarks, write_landmarks
from jaxreg.network.conv import conv3d
from jaxreg.ops.deformation import compose, transform_points
from jaxreg.ops.interpolation import sample

LPS = np.array([-1.0, -1.0, 1.0])
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=6)  # each shape is compiled anew


def shapes(low, high):
    return st.tuples(*[st.integers(low, high)] * 3)


@st.composite
def affines(draw):
    """Any orientation, oblique ones included, unequal spacing, far origins."""
    random = np.random.default_rng(draw(SEEDS))
    axes = np.eye(3)[random.permutation(3)] * random.choice([-1.0, 1.0], 3)
    turn = Rotation.random(rng=random).as_matrix() if draw(st.booleans()) else np.eye(3)
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes * random.uniform(0.3, 5.0, 3)
    affine[:3, 3] = random.uniform(-500.0, 500.0, 3)
    return affine


@given(affines(), shapes(2, 6), SEEDS)
def test_grid_takes_points_to_the_world_and_back(affine, shape, seed):
    grid = Grid(shape, affine)
    points = np.random.default_rng(seed).uniform(-50.0, 50.0, (5, 3))
    np.testing.assert_allclose(grid.voxel_from_world(grid.world_from_voxel(points)), points)
    steps = [grid.world_from_voxel(np.eye(3)[a]) - affine[:3, 3] for a in range(3)]
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), grid.spacing_mm)
    moved = affine.copy()
    moved[:3, 3] += 0.2 * np.linalg.norm(affine[:3, 0])
    assert grid.matches(Grid(shape, affine)) and not grid.matches(Grid(shape, moved))


@given(affines(), shapes(2, 6), SEEDS, st.sampled_from([np.float32, np.int16, np.uint8]))
def test_nifti_keeps_values_and_grid_and_itk_reads_the_same(affine, shape, seed, dtype):
    values = np.random.default_rng(seed).uniform(0, 255, shape).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nii"
        nifti.write_volume(path, Volume(values, affine))
        read = nifti.read_volume(path)
        np.testing.assert_array_equal(read.data, values)
        np.testing.assert_allclose(read.affine, affine, atol=1e-4)
        theirs = sitk.ReadImage(str(path), sitk.sitkFloat32)
        for index in ((0, 0, 0), tuple(n - 1 for n in shape)):
            lps = np.array(theirs.TransformIndexToPhysicalPoint(index))
            np.testing.assert_allclose(read.world_from_voxel(np.array(index)), lps * LPS, atol=1e-3)
            assert theirs[index] == values[index]
        sitk.WriteImage(theirs, str(Path(folder) / "a.mha"))
        back = read_image(Path(folder) / "a.mha")
        np.testing.assert_array_equal(back.data, values)
        np.testing.assert_allclose(back.affine, affine, atol=1e-3)


@given(affines(), shapes(2, 5), SEEDS)
def test_fields_come_back_from_voxels_files_and_itk(affine, shape, seed):
    random = np.random.default_rng(seed)
    u = random.uniform(-3.0, 3.0, (*shape, 3)).astype(np.float32)
    field = DisplacementField.from_voxels(u, affine)
    np.testing.assert_allclose(field.to_voxels(), u, atol=1e-4)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "u.nii"
        nifti.write_displacement(path, field)
        read = nifti.read_displacement(path)
        transform = sitk.DisplacementFieldTransform(
            sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
        )
    np.testing.assert_array_equal(read.data, field.data)
    for index in random.integers(0, shape, (3, 3)):
        point = field.grid.world_from_voxel(index)
        theirs = np.array(transform.TransformPoint(tuple(point * LPS))) * LPS
        np.testing.assert_allclose(theirs, point + field.data[tuple(index)], atol=2e-3)


WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), max_size=8)


@given(st.lists(WORDS, min_size=1, max_size=4), SEEDS, st.sampled_from(["RAS", "LPS"]))
def test_landmarks_come_back_from_csv(kinds, seed, space):
    kinds = [kind.strip() for kind in kinds]
    assume(not any(kind.startswith("#") for kind in kinds))  # a line that starts so is a comment
    points = np.random.default_rng(seed).uniform(-900.0, 900.0, (2, len(kinds), 3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.csv"
        write_landmarks(path, Landmarks(*points, np.array(kinds)), space=space)
        read = read_landmarks(path)
    np.testing.assert_allclose([read.fixed, read.moving], points, atol=6e-4)
    assert read.kind.tolist() == kinds


@FEW
@given(shapes(1, 7), st.sampled_from([(), (2,)]), SEEDS)
def test_sample_is_map_coordinates(shape, channels, seed):
    random = np.random.default_rng(seed)
    image = random.normal(size=(*shape, *channels)).astype(np.float32)
    points = random.uniform(-3.0, np.array(shape) + 2.0, (40, 3)).astype(np.float32)
    planes = image.reshape(*shape, -1)
    expected = [
        ndimage.map_coordinates(planes[..., c], points.T, order=1, mode="nearest")
        for c in range(planes.shape[-1])
    ]
    expected = np.stack(expected, axis=-1).reshape(40, *channels)
    np.testing.assert_allclose(sample(image, points), expected, atol=2e-5)


@FEW
@given(shapes(3, 19), st.integers(1, 5), st.integers(1, 5), SEEDS)
def test_conv3d_is_the_convolution_of_xla(shape, features, filters, seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(*shape, features)).astype(np.float32)
    w = random.normal(size=(3, 3, 3, features, filters)).astype(np.float32)
    numbers = ("NXYZC", "XYZIO", "NXYZC")
    expected = jax.lax.conv_general_dilated(
        x[None], w, (1, 1, 1), "SAME", dimension_numbers=numbers, precision="highest"
    )[0]
    error = np.linalg.norm(conv3d(x, w) - expected)
    assert error < 1e-5 * np.linalg.norm(expected)


COMPOSE_SHAPE = (9, 8, 7)


def linear_field(seed):
    """A linear displacement about the middle of the grid, up to 0.7 voxels, float32."""
    matrix = np.random.default_rng(seed).uniform(-0.06, 0.06, (3, 3))
    points = np.stack(np.indices(COMPOSE_SHAPE), axis=-1) - (np.array(COMPOSE_SHAPE) - 1) / 2
    return (points @ matrix.T).astype(np.float32), matrix


INNER = (slice(2, -2),) * 3  # whose points stay in the grid twice


@given(SEEDS, SEEDS, SEEDS)
def test_composition_is_associative_and_multiplies_linear_maps(first, second, third):
    (a, matrix_a), (b, matrix_b), (c, _) = (linear_field(seed) for seed in (first, second, third))
    left, right = compose(compose(a, b), c), compose(a, compose(b, c))
    np.testing.assert_allclose(left[INNER], right[INNER], atol=1e-5)
    middle = (np.array(COMPOSE_SHAPE) - 1) / 2
    points = np.stack(np.indices(COMPOSE_SHAPE), axis=-1)[INNER] - middle
    product = (np.eye(3) + matrix_a) @ (np.eye(3) + matrix_b) - np.eye(3)
    np.testing.assert_allclose(compose(a, b)[INNER], points @ product.T, atol=1e-5)


@given(SEEDS, SEEDS)
def test_zero_is_neutral_and_points_move_one_field_after_the_other(first, second):
    random = np.random.default_rng(first)
    u = random.uniform(-2.0, 2.0, (*COMPOSE_SHAPE, 3)).astype(np.float32)
    np.testing.assert_array_equal(compose(u, 0 * u), u)
    np.testing.assert_array_equal(compose(0 * u, u), u)
    (outer, _), (inner, _) = linear_field(first), linear_field(second)
    points = random.uniform(2.0, np.array(COMPOSE_SHAPE) - 3.0, (6, 3)).astype(np.float32)
    twice = transform_points(outer, transform_points(inner, points))
    np.testing.assert_allclose(transform_points(compose(outer, inner), points), twice, atol=1e-5)


@st.composite
def settings_trees(draw):
    """Arguments of valid settings, far from the defaults; built by the test, not while drawing."""
    levels = draw(st.integers(1, 3))
    widths = draw(st.lists(st.integers(1, 64), min_size=1, max_size=4))
    factor = 2 ** (len(widths) - 1 + levels - 1)
    grid = tuple(factor * n for n in draw(st.tuples(*[st.integers(2, 6)] * 3)))
    low, high = draw(st.tuples(st.floats(-2000, -500), st.floats(-100, 2000)))
    positive = st.floats(1e-6, 1e6)

    def each(values):
        return tuple(draw(st.lists(values, min_size=levels, max_size=levels)))

    network = {"grid": grid, "levels": levels, "widths": tuple(widths), "window": (low, high)}
    loss = {
        "similarity": draw(positive),
        "smoothness": draw(positive),
        "keypoints": each(positive),
        "volume_threshold": each(st.floats(0.01, 0.5)),
    }
    training = {
        "steps": each(st.integers(1, 10**6)),
        "batch": each(st.integers(1, 16)),
        "blocks": each(st.just(1)),
        "seed": draw(st.integers(0, 2**31 - 1)),
        "learning_rate": draw(st.floats(1e-8, 1.0)),
    }
    return network, loss, training


@given(settings_trees())
def test_settings_come_back_from_json(trees):
    network, loss, training = trees
    config = Config(
        network=NetworkConfig(**network),
        loss=LossConfig(**loss),
        training=TrainingConfig(**training),
    )
    assert from_json(to_json(config)) == config
    assert hash(from_json(to_json(config))) == hash(config)


def cells_of(line):
    """Cells of a line of a Markdown table, by GitHub's rule: a backslash escapes what follows."""
    found = re.findall(r"((?:\\.|[^|\\])*)\|", line.removeprefix("|"))
    return [re.sub(r"\\([|\\])", r"\1", cell).strip() for cell in found]


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(st.lists(TEXT, min_size=1, max_size=3, unique=True), st.data())
def test_tables_keep_their_cells_whatever_is_written_in_them(names, data):
    row = {name: data.draw(TEXT) for name in names}
    lines = markdown([row]).removesuffix("\n").splitlines()
    assert len(lines) == 3
    expected = [[" ".join(text.split()) for text in line] for line in (row, row.values())]
    for line, texts in zip((lines[0], lines[2]), expected, strict=True):
        assert [" ".join(cell.split()) for cell in cells_of(line)] == texts
