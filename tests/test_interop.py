"""Fields as SimpleITK, ANTsPy and elastix apply them; each skipped where it is not installed."""

import warnings

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from jaxreg.cli.app import main
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io import nifti

pytestmark = [
    pytest.mark.filterwarnings("ignore::jaxreg.io.notes.FileWarning"),  # of the sheared grid
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of other packages
]
SHAPE, SPACING = (31, 27, 22), (1.1, 1.4, 2.5)
LPS = np.array([-1.0, -1.0, 1.0])


def grid_of(kind):
    c, s = np.cos(0.3), np.sin(0.3)
    matrix = {
        "RAS": np.eye(3),
        "LPS": np.diag(LPS),
        "oblique": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "sheared": np.diag(LPS) @ np.array([[1, 0, 0], [0, 1, 0.17], [0, 0, 1]]),
    }[kind]
    affine = np.eye(4)
    affine[:3, :3] = matrix * SPACING
    affine[:3, 3] = (-12.0, 30.0, 140.0) - affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return Grid(SHAPE, affine)


@pytest.fixture(params=["RAS", "LPS", "oblique", "sheared"])
def case(request, tmp_path):
    """A smooth field on a grid, its file, and points well inside with where we map them (RAS)."""
    grid = grid_of(request.param)
    world = grid.world_from_voxel(np.moveaxis(np.indices(SHAPE), 0, -1))
    centred = world - world.mean((0, 1, 2))
    vectors = 3 * np.sin(centred[..., [1, 2, 0]] / 20) + (2.0, -1.0, 3.0)
    field = DisplacementField(vectors, grid.affine)
    nifti.write_displacement(tmp_path / "d.nii.gz", field)
    voxels = np.random.default_rng(0).uniform(0.2, 0.8, (50, 3)) * (np.array(SHAPE) - 1)
    points = grid.world_from_voxel(voxels)
    return field, tmp_path / "d.nii.gz", points, field.transform_points(points)


def assert_mapped(theirs, ours):
    assert np.linalg.norm(np.asarray(theirs) - ours, axis=1).max() < 0.01  # mm


def test_simpleitk(case):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    _, path, points, ours = case
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(image)
    assert_mapped([LPS * transform.TransformPoint((LPS * p).tolist()) for p in points], ours)


def test_antspy(case):
    ants = pytest.importorskip("ants", reason="ANTsPy is not installed (extra interop)")
    import pandas

    _, path, points, ours = case
    table = pandas.DataFrame(points * LPS, columns=["x", "y", "z"])
    mapped = ants.apply_transforms_to_points(3, table, [str(path)], whichtoinvert=[False])
    assert_mapped(mapped[["x", "y", "z"]].to_numpy() * LPS, ours)


@pytest.fixture
def scans(case, tmp_path):
    """A fixed grid, an image and a label map, on grids turned against each other."""
    field, _, _, _ = case
    if field.grid.is_sheared():
        pytest.skip("ITK opens no image on a sheared grid")
    rng = np.random.default_rng(1)
    affine = field.affine @ np.diag([0.9, 1.1, 0.8, 1.0])
    affine[:3, 3] += 1.5
    smooth = gaussian_filter(rng.normal(size=(36, 28, 26)), 2.0)
    images = {
        "fixed": Volume(np.zeros(SHAPE, np.float32), field.affine),
        "ct": Volume((2000 * smooth - 700).astype(np.float32), affine),
        "labels": Volume((3 * (smooth > 0.05) + (smooth > 0.1)).astype(np.uint8), affine),
    }
    for name, image in images.items():
        nifti.write_volume(tmp_path / f"{name}.nii.gz", image)
    return tmp_path


def warped_by_antspy(ants, folder, name, field, interpolator, fill):
    image, fixed = (ants.image_read(str(folder / f"{n}.nii.gz")) for n in (name, "fixed"))
    warped = ants.apply_transforms(
        fixed, image, [str(field)], interpolator=interpolator, defaultvalue=fill
    )
    return warped.numpy()


def test_images_and_labels_are_those_of_antspy(case, scans):
    ants = pytest.importorskip("ants", reason="ANTsPy is not installed (extra interop)")
    _, path, _, _ = case
    words = ("--field", str(path), "--to", str(scans / "fixed.nii.gz"), "--out")
    for name, kind, interpolator, fill in (
        ("ct", ("--fill", "-1024"), "linear", -1024),
        ("labels", ("--labels",), "nearestNeighbor", 0),
    ):
        image, out = str(scans / f"{name}.nii.gz"), scans / f"warped_{name}.nii.gz"
        assert main(arguments=["warp", image, *words, str(out), *kind]) == 0
        ours = ants.image_read(str(out)).numpy()
        theirs = warped_by_antspy(ants, scans, name, path, interpolator, fill)
        if name == "ct":
            both = (ours != fill) & (theirs != fill)  # the last half voxel is another convention
            assert both.mean() > 0.5
            np.testing.assert_allclose(ours[both], theirs[both], atol=0.05)
        else:
            assert (theirs > 0).mean() > 0.05
            assert np.mean(ours != theirs) < 0.005  # ties


def test_the_inverse_takes_antspys_points_back(case, tmp_path):
    ants = pytest.importorskip("ants", reason="ANTsPy is not installed (extra interop)")
    import pandas

    _, path, points, _ = case
    inverse = tmp_path / "inverse.nii.gz"
    assert main(arguments=["invert", str(path), "--out", str(inverse)]) == 0
    for start, one, other in ((points, path, inverse), (points, inverse, path)):
        table = pandas.DataFrame(start * LPS, columns=["x", "y", "z"])
        for transform in (one, other):
            table = ants.apply_transforms_to_points(
                3, table, [str(transform)], whichtoinvert=[False]
            )[["x", "y", "z"]]
        back = table.to_numpy() * LPS
        assert np.linalg.norm(back - start, axis=1).max() < 0.05 * min(SPACING)


def test_elastix(case, tmp_path):
    """A ramp in world coordinates, warped by transformix, shows where it looks."""
    itk = pytest.importorskip("itk", reason="itk-elastix is not installed (extra interop)")
    field, path, _, _ = case
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = field.affine[:3] @ [*((np.array(SHAPE) - 1) / 2), 1] - 90
    moving = Grid((60, 60, 60), affine)
    world = moving.world_from_voxel(np.moveaxis(np.indices(moving.shape), 0, -1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = itk.imread(str(path), itk.Vector[itk.F, 3])
    parameters = parameter_object(itk, image, path)
    inside = tuple(slice(n // 5, n - n // 5) for n in image.shape[2::-1])
    read = nifti.read_displacement(path)
    expected = read.grid.world_from_voxel(np.moveaxis(np.indices(read.shape), 0, -1)) + read.data
    for axis in range(3):
        nifti.write_volume(tmp_path / "m.nii", Volume(world[..., axis], moving.affine))
        ramp = itk.imread(str(tmp_path / "m.nii"), itk.F)
        warped = np.asarray(itk.transformix_filter(ramp, parameters)).T
        apart = np.abs(warped - expected[..., axis])[inside]
        assert apart.max() < 0.05 * min(SPACING)


def parameter_object(itk, image, path):
    """Parameters of transformix that apply a file as a DeformationFieldTransform."""
    parameters = itk.ParameterObject.New()

    def numbers(values):
        return [f"{value:.12g}" for value in values]

    direction = np.asarray(itk.array_from_matrix(image.GetDirection()))
    parameters.AddParameterMap(
        {
            "Transform": ["DeformationFieldTransform"],
            "DeformationFieldFileName": [str(path)],
            "DeformationFieldInterpolationOrder": ["1"],
            "NumberOfParameters": ["0"],
            "InitialTransformParameterFileName": ["NoInitialTransform"],
            "HowToCombineTransforms": ["Compose"],
            "FixedImageDimension": ["3"],
            "MovingImageDimension": ["3"],
            "FixedInternalImagePixelType": ["float"],
            "MovingInternalImagePixelType": ["float"],
            "Size": numbers(image.GetLargestPossibleRegion().GetSize()),
            "Index": ["0", "0", "0"],
            "Spacing": numbers(image.GetSpacing()),
            "Origin": numbers(image.GetOrigin()),
            "Direction": numbers(direction.T.ravel()),
            "UseDirectionCosines": ["true"],
            "ResampleInterpolator": ["FinalLinearInterpolator"],
            "Resampler": ["DefaultResampler"],
            "DefaultPixelValue": ["0"],
            "ResultImageFormat": ["nii"],
            "ResultImagePixelType": ["float"],
        }
    )
    return parameters
