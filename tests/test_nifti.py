"""NIfTI reading, and fields as SimpleITK applies them."""

import gzip
import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io import nifti, nifti_writer
from jaxreg.io.notes import FileWarning

SHAPE = (9, 7, 6)
SPACING = (1.1, 1.4, 2.5)
TO_RAS = np.diag([-1.0, -1.0, 1.0])


def affine(orientation):
    rotation = {
        "RAS": np.eye(3),
        "LPS": np.diag([-1.0, -1.0, 1.0]),
        "PIR": np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]),
        "oblique": _rotation([0.2, -0.3, 0.25]),
    }[orientation]
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * SPACING
    centre = np.array([-31.5, 12.25, 140.0])  # of the image: the grids overlap there
    matrix[:3, 3] = centre - matrix[:3, :3] @ (np.array(SHAPE) - 1) / 2
    return matrix


def _rotation(angles):
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        matrix = matrix @ turn
    return matrix


ORIENTATIONS = ["RAS", "LPS", "PIR", "oblique"]


@pytest.fixture
def data():
    return np.random.default_rng(3).normal(-500, 300, SHAPE).astype(np.float32)


def save(path, data, matrix, *, sform=1, qform=1, unit="mm", slope=None):
    image = nibabel.Nifti1Image(data, matrix)
    image.set_sform(matrix, sform)
    image.set_qform(matrix, qform)
    image.header.set_xyzt_units(unit)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (2, 0), (0, 1)])
def test_reads_any_orientation_by_sform_or_qform(tmp_path, data, orientation, codes):
    matrix = affine(orientation)
    path = save(tmp_path / "a.nii.gz", data, matrix, sform=codes[0], qform=codes[1])
    volume = nifti.read_volume(path)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, matrix, atol=1e-4)
    np.testing.assert_allclose(volume.spacing_mm, SPACING, rtol=1e-5)
    assert nifti.read_grid(path).matches(volume.grid)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_world_position_of_a_voxel_is_simpleitks(tmp_path, data, orientation):
    path = save(tmp_path / "a.nii.gz", data, affine(orientation))
    image = sitk.ReadImage(str(path))
    volume = nifti.read_volume(path)
    for index in [(0, 0, 0), (8, 0, 0), (2, 6, 0), (1, 3, 5)]:
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(
            volume.world_from_voxel(np.array(index)), TO_RAS @ lps, atol=1e-4
        )
        assert image[index] == volume.data[index]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_reads_every_common_type_as_float32(tmp_path, dtype):
    stored = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)
    volume = nifti.read_volume(save(tmp_path / "a.nii", stored, affine("RAS")))
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data, stored)


def test_applies_slope_and_intercept(tmp_path):
    stored = np.random.default_rng(0).integers(0, 3000, SHAPE).astype(np.int16)
    image = nibabel.Nifti1Image(stored, affine("LPS"))
    nibabel.save(image, tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([2.0, -1024.0], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(raw)
    np.testing.assert_array_equal(nifti.read_volume(tmp_path / "a.nii").data, stored * 2.0 - 1024)


@pytest.mark.parametrize(
    ("unit", "factor"), [("meter", 1000.0), ("micron", 1e-3), ("unknown", 1.0)]
)
def test_world_is_millimetres_in_every_unit(tmp_path, data, unit, factor):
    volume = nifti.read_volume(save(tmp_path / "a.nii", data, affine("LPS"), unit=unit))
    np.testing.assert_allclose(volume.affine[:3], affine("LPS")[:3] * factor, rtol=1e-4)


def test_sform_wins_over_another_qform_and_says_so(tmp_path, data):
    image = nibabel.Nifti1Image(data, affine("LPS"))
    image.set_sform(affine("LPS"), 1)
    image.set_qform(affine("RAS"), 1)
    nibabel.save(image, tmp_path / "a.nii.gz")
    with pytest.warns(FileWarning, match=r"a\.nii\.gz: .* the sform is used") as caught:
        volume = nifti.read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(volume.affine, affine("LPS"), atol=1e-5)
    assert [warning.message.code for warning in caught] == ["sform-and-qform-differ"]


def patched(path, offset, values, kind="<f4"):
    """The file with numbers of its header replaced."""
    raw = bytearray(path.read_bytes())
    numbers = np.asarray(values, kind).tobytes()
    raw[offset : offset + len(numbers)] = numbers
    path.write_bytes(raw)
    return path


QUATERNION, SROW_X, PIXDIM, VOX_OFFSET, DIM, UNITS = 256, 280, 76, 108, 40, 123


@pytest.mark.parametrize("rows", [np.zeros(12), np.full(12, np.nan), np.ones(12)])
def test_an_sform_that_is_none_leaves_the_qform(tmp_path, data, rows):
    path = patched(save(tmp_path / "a.nii", data, affine("oblique")), SROW_X, rows)
    with pytest.warns(FileWarning, match="the sform is no matrix of a grid; qform is used"):
        volume = nifti.read_volume(path)
    np.testing.assert_allclose(volume.affine, affine("oblique"), atol=1e-4)


@pytest.mark.parametrize("quaternion", [(0.9, 0.9, 0.0), (np.nan, 0, 0)])
def test_a_qform_that_is_none_leaves_the_sform(tmp_path, data, quaternion):
    path = patched(save(tmp_path / "a.nii", data, affine("oblique")), QUATERNION, quaternion)
    with pytest.warns(FileWarning, match="the qform is no matrix of a grid; sform is used"):
        volume = nifti.read_volume(path)
    np.testing.assert_allclose(volume.affine, affine("oblique"), atol=1e-4)
    patched(path, SROW_X, np.zeros(12))
    with pytest.raises(ValueError, match=r"a\.nii: affine: expected .* got sform and qform that"):
        nifti.read_volume(path)


@pytest.mark.parametrize("codes", [(1, 1), (0, 1)])
def test_a_quaternion_that_rounding_made_too_long_is_half_a_turn(tmp_path, data, codes):
    path = save(tmp_path / "a.nii", data, affine("LPS"), sform=codes[0], qform=codes[1])
    patched(path, QUATERNION, (0.0, 0.0, 1.000002))
    np.testing.assert_allclose(nifti.read_volume(path).affine, affine("LPS"), atol=1e-4)


def test_units_of_time_and_an_axis_of_length_0_do_not_matter(tmp_path, data):
    path = patched(save(tmp_path / "a.nii", data, affine("LPS")), UNITS, [2 | 8 | 192], "u1")
    patched(path, DIM, [4, *SHAPE, 0], "<i2")
    np.testing.assert_array_equal(nifti.read_volume(path).data, data)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_values_that_the_header_does_not_count_are_told(tmp_path, data, name):
    path = save(tmp_path / "b.nii", np.concatenate([data, data], axis=2), affine("LPS"))
    content = patched(path, DIM, [3, *SHAPE], "<i2").read_bytes()
    packed = gzip.compress(content, mtime=0) if name.endswith("gz") else content
    (tmp_path / name).write_bytes(packed)
    with pytest.warns(FileWarning, match=rf"{name}: the file holds {4 * data.size} bytes more"):
        volume = nifti.read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.data, data)


def test_one_time_point_is_a_3d_image(tmp_path, data):
    path = save(tmp_path / "a.nii.gz", data[..., None], affine("LPS"))
    np.testing.assert_array_equal(nifti.read_volume(path).data, data)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((9, 7), r"expected a 3-D image, got a single slice, shape \(9, 7\)"),
        ((9, 7, 1), r"expected a 3-D image, got a single slice, shape \(9, 7, 1\)"),
        ((9, 7, 6, 3), r"expected one 3-D image, got shape \(9, 7, 6, 3\), a series or vectors"),
        ((9, 7, 6, 1, 3), r"expected one 3-D image, got shape \(9, 7, 6, 1, 3\)"),
    ],
)
def test_refuses_what_is_not_one_3d_image(tmp_path, shape, text):
    path = save(tmp_path / "a.nii.gz", np.zeros(shape, np.int16), affine("LPS"))
    with pytest.raises(ValueError, match=text):
        nifti.read_volume(path)


def test_refuses_a_file_without_orientation(tmp_path, data):
    path = save(tmp_path / "a.nii.gz", data, affine("LPS"), sform=0, qform=0)
    with pytest.raises(ValueError, match=r"a\.nii\.gz: expected an orientation, got sform_code"):
        nifti.read_volume(path)


def test_refuses_a_singular_affine(tmp_path, data):
    matrix = affine("LPS")
    matrix[:3, 2] = matrix[:3, 1]
    raw = bytearray(save(tmp_path / "a.nii", data, affine("LPS"), qform=0).read_bytes())
    raw[280:328] = matrix[:3].astype("<f4").tobytes()  # srow_x, srow_y, srow_z
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(ValueError, match=r"a\.nii: affine: expected a finite invertible matrix"):
        nifti.read_volume(tmp_path / "a.nii")


def test_refuses_an_unknown_unit(tmp_path, data):
    raw = bytearray(save(tmp_path / "a.nii", data, affine("LPS")).read_bytes())
    raw[123] = 7  # xyzt_units
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(ValueError, match="expected a known xyzt_units code, got 7"):
        nifti.read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_values_that_are_not_finite(tmp_path, data, value):
    data[2, 3, 4] = value
    path = save(tmp_path / "a.nii.gz", data, affine("LPS"))
    text = r"a\.nii\.gz: data: expected finite values, got NaN or infinity in 1 of 378 places"
    with pytest.raises(ValueError, match=text):
        nifti.read_volume(path)


def test_nan_outside_of_the_field_of_view_is_air(tmp_path, data):
    data[:2] = np.nan
    data[2, 3, 4] = np.nan  # connected with them
    path = save(tmp_path / "a.nii.gz", data, affine("LPS"))
    with pytest.warns(FileWarning, match="85 voxels at the border are NaN .* taken as air, -1024"):
        volume = nifti.read_volume(path)
    np.testing.assert_array_equal(volume.data, np.where(np.isnan(data), -1024, data))


def test_refuses_complex_and_colour(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.complex64), affine("LPS"))
    with pytest.raises(ValueError, match="expected one number per voxel, got type complex"):
        nifti.read_volume(path)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
@pytest.mark.parametrize("keep", [0, 40, 400, 900])
def test_refuses_a_truncated_file(tmp_path, data, name, keep):
    path = save(tmp_path / name, data, affine("LPS"))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="expected a complete NIfTI file, got .*. Copy") as info:
        nifti.read_volume(path)
    assert str(path) in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "content",
    [b"not an image" * 99, gzip.compress(b"not an image" * 99, mtime=0)],
    ids=["plain", "gzip"],
)
def test_refuses_what_is_not_nifti(tmp_path, content):
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.nii\.gz: expected a complete NIfTI file") as info:
        nifti.read_volume(tmp_path / "a.nii.gz")
    assert "\n" not in str(info.value)


def test_refuses_missing_files(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="b.nii.gz: expected a NIfTI file, got no such file"
    ):
        nifti.read_volume(tmp_path / "b.nii.gz")


@pytest.mark.filterwarnings("ignore::jaxreg.io.notes.FileWarning")
def test_no_flipped_bit_changes_a_compressed_image_in_silence(tmp_path):
    data = np.random.default_rng(0).normal(-500, 300, SHAPE).astype(np.int16)
    whole = save(tmp_path / "a.nii.gz", data, affine("LPS")).read_bytes()
    rng, refused = np.random.default_rng(1), 0
    for position in rng.integers(0, len(whole), 450):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        (tmp_path / "b.nii.gz").write_bytes(damaged)
        try:
            volume = nifti.read_volume(tmp_path / "b.nii.gz")
        except ValueError as error:
            refused += 1
            assert str(error).startswith(str(tmp_path / "b.nii.gz"))
        else:  # the name and the time in gzip's header: nothing that is read
            np.testing.assert_array_equal(volume.data, data)
            np.testing.assert_allclose(volume.affine, affine("LPS"), atol=1e-4)
    assert refused > 400


def test_a_wrong_checksum_is_named(tmp_path, data):
    whole = bytearray(save(tmp_path / "a.nii.gz", data, affine("LPS")).read_bytes())
    whole[-6] ^= 1  # of the checksum; the values are as they were
    (tmp_path / "a.nii.gz").write_bytes(whole)
    text = "expected a complete NIfTI file, got a wrong checksum. Copy or convert the file again"
    with pytest.raises(ValueError, match=text):
        nifti.read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr", "a.hdr.gz", "a.img", "a.img.gz"])
@pytest.mark.parametrize("packed", [False, True])
def test_files_are_recognised_by_their_bytes(tmp_path, data, name, packed):
    pair = "nii" not in name
    kind = nibabel.Nifti1Pair if pair else nibabel.Nifti1Image
    nibabel.save(kind(data, affine("LPS")), tmp_path / ("c.hdr" if pair else "c.nii"))
    for file in list(tmp_path.iterdir()):
        content = file.read_bytes()
        ending = file.suffix + (".gz" if name.endswith(".gz") else "")
        (tmp_path / f"a{ending}").write_bytes(
            gzip.compress(content, mtime=0) if packed else content
        )
    volume = nifti.read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, affine("LPS"), atol=1e-4)


@pytest.mark.parametrize(
    ("offset", "values", "kind", "text"),
    [
        (VOX_OFFSET, [np.inf], "<f4", "values that begin at byte inf"),
        (VOX_OFFSET, [np.nan], "<f4", "values that begin at byte nan"),
        (VOX_OFFSET, [8], "<f4", "values that begin at byte 8"),
        (VOX_OFFSET, [1e9], "<f4", "an early end"),
        (DIM, [3, 9, -1, 6], "<i2", r"the shape \(9, -1, 6\)"),
        (DIM, [3, 9, 7, 0], "<i2", r"the shape \(9, 7, 0\)"),
        (DIM, [9, 9, 7, 6], "<i2", "no NIfTI header|9 axes"),
        (DIM, [3, 30000, 30000, 600], "<i2", "at most [0-9]+ bytes where the header says 2160000"),
        (70, [4242], "<i2", "an unknown data type, code 4242"),
        (116, [np.nan], "<f4", "the intercept nan"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_absurd_headers_are_refused_before_memory_is_asked_for(
    tmp_path, data, offset, values, kind, text, name
):
    path = patched(
        save(tmp_path / "b.nii", data, affine("LPS"), slope=(1.5, 2)), offset, values, kind
    )
    content = path.read_bytes()
    (tmp_path / name).write_bytes(
        gzip.compress(content, mtime=0) if name.endswith("gz") else content
    )
    for read in (nifti.read_volume, nifti.read_displacement):
        with pytest.raises(ValueError) as info:
            read(tmp_path / name)
        assert str(info.value).startswith(str(tmp_path / name))
    with pytest.raises(ValueError, match=f"expected a complete NIfTI file, got ({text})"):
        nifti.read_volume(tmp_path / name)


def test_a_field_of_an_absurd_shape_is_refused(tmp_path, field):
    nifti.write_displacement(tmp_path / "d.nii", field)
    for sizes in ([5, 9, 7, -1, 1, 3], [5, 9, 7, 0, 1, 3]):
        path = patched(tmp_path / "d.nii", DIM, sizes, "<i2")
        with pytest.raises(
            ValueError, match=r"d\.nii: expected a complete NIfTI file, got the shape"
        ):
            nifti.read_displacement(path)


def test_big_endian_files_and_nifti_2(tmp_path, data):
    for k, header in enumerate((nibabel.Nifti1Header(endianness=">"), nibabel.Nifti2Header())):
        kind = nibabel.Nifti1Image if k == 0 else nibabel.Nifti2Image
        image = kind(data, affine("oblique"), header)
        nibabel.save(image, tmp_path / "a.nii.gz")
        volume = nifti.read_volume(tmp_path / "a.nii.gz")
        np.testing.assert_array_equal(volume.data, data)
        np.testing.assert_allclose(volume.affine, affine("oblique"), atol=1e-4)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_write_and_read_back(tmp_path, data, orientation, name):
    nifti.write_volume(tmp_path / name, Volume(data, affine(orientation)))
    volume = nifti.read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, affine(orientation), atol=1e-4)
    header = nibabel.load(tmp_path / name).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([True, False]), np.uint8),
        (np.array([0, 5], np.int64), np.uint8),
        (np.array([-1, 255], np.int64), np.int16),
        (np.array([0, 70000], np.int64), np.int32),
        (np.array([0.5, 2.0]), np.float32),
    ],
)
def test_stored_type_is_the_smallest_that_holds_the_values(tmp_path, values, dtype):
    data = np.broadcast_to(values[:, None, None], (2, 4, 3))
    nifti.write_volume(tmp_path / "a.nii.gz", Volume(data, affine("LPS")))
    stored = nibabel.load(tmp_path / "a.nii.gz")
    assert stored.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), data)


def test_refuses_to_write_integers_beyond_int32_or_under_another_ending(tmp_path):
    big = Volume(np.full(SHAPE, 2**40), affine("LPS"))
    with pytest.raises(ValueError, match="expected integers within int32, got 1099511627776"):
        nifti.write_volume(tmp_path / "a.nii", big)
    with pytest.raises(ValueError, match=r"a\.mha: expected a name ending in \.nii\.gz"):
        nifti.write_volume(tmp_path / "a.mha", Volume(np.zeros(SHAPE), affine("LPS")))


def sheared(slope):
    matrix = affine("LPS")
    matrix[1, 2] = slope * matrix[2, 2]
    return matrix


def test_a_sheared_affine_survives_and_is_told(tmp_path, data):
    with pytest.warns(
        FileWarning, match="a.nii.gz: the axes of this grid are not at right"
    ) as told:
        nifti.write_volume(tmp_path / "a.nii.gz", Volume(data, sheared(0.2)))
    assert [warning.message.code for warning in told] == ["sheared-grid"]
    np.testing.assert_allclose(
        nifti.read_volume(tmp_path / "a.nii.gz").affine, sheared(0.2), atol=1e-5
    )


def test_the_qform_stays_only_where_it_says_the_same_to_a_twentieth_of_a_voxel(tmp_path):
    """A shear of 0.01 is nothing in six slices and 2.3 mm in three hundred."""
    nifti.write_volume(tmp_path / "a.nii", Volume(np.zeros((4, 4, 6), np.int16), sheared(0.01)))
    assert int(nibabel.load(tmp_path / "a.nii").header["qform_code"]) == 1
    with pytest.warns(FileWarning, match="not at right angles"):
        nifti.write_volume(
            tmp_path / "a.nii", Volume(np.zeros((4, 4, 300), np.int16), sheared(0.01))
        )
    assert int(nibabel.load(tmp_path / "a.nii").header["qform_code"]) == 0


def test_a_field_on_a_sheared_grid_is_applied_by_simpleitk(tmp_path):
    grid = Grid(SHAPE, sheared(0.17))
    world = grid.world_from_voxel(np.moveaxis(np.indices(SHAPE), 0, -1))
    bend = np.array([[0.1, 0.02, 0], [0, -0.05, 0.03], [0.01, 0, 0.08]])
    field = DisplacementField((world - world.mean((0, 1, 2))) @ bend, grid.affine)
    with pytest.warns(FileWarning, match="the field is on a rectangular grid that covers it"):
        nifti.write_displacement(tmp_path / "d.nii.gz", field)
    transform = itk_transform(tmp_path / "d.nii.gz")
    voxels = np.random.default_rng(1).uniform(0.1, 0.9, (40, 3)) * (np.array(SHAPE) - 1)
    points = grid.world_from_voxel(voxels)
    theirs = [TO_RAS @ np.array(transform.TransformPoint((TO_RAS @ p).tolist())) for p in points]
    apart = np.linalg.norm(field.transform_points(points) - theirs, axis=1)
    assert apart.max() < 0.05 * min(SPACING)


@pytest.fixture(params=ORIENTATIONS)
def field(request):
    vectors = np.random.default_rng(5).normal(0, 2.0, (*SHAPE, 3)).astype(np.float32)
    return DisplacementField(vectors, affine(request.param))


def itk_transform(path):
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkVectorFloat64)
    return sitk.DisplacementFieldTransform(image)


def test_simpleitk_maps_points_as_we_do(tmp_path, field):
    nifti.write_displacement(tmp_path / "d.nii.gz", field)
    transform = itk_transform(tmp_path / "d.nii.gz")
    voxels = np.random.default_rng(1).uniform(0.01, 0.99, (40, 3)) * (np.array(SHAPE) - 1)
    points = field.grid.world_from_voxel(voxels)
    theirs = [TO_RAS @ np.array(transform.TransformPoint((TO_RAS @ p).tolist())) for p in points]
    np.testing.assert_allclose(field.transform_points(points), theirs, atol=2e-4)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "oblique"])
def test_simpleitk_warps_images_as_an_explicit_loop(tmp_path, data, field, orientation):
    moving = Volume(data, affine(orientation))
    nifti.write_volume(tmp_path / "m.nii.gz", moving)
    nifti.write_displacement(tmp_path / "d.nii.gz", field)
    image = sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    reference = sitk.ReadImage(str(tmp_path / "d.nii.gz"))
    resampled = sitk.Resample(
        image, reference, itk_transform(tmp_path / "d.nii.gz"), sitk.sitkLinear, 7e4
    )
    theirs = sitk.GetArrayFromImage(resampled).T
    compared = 0
    for index in itertools.product(*[range(n) for n in SHAPE]):
        point = field.grid.world_from_voxel(np.array(index)) + field.data[index]
        voxel = moving.voxel_from_world(point)
        if np.all(voxel > 0.01) and np.all(voxel < np.array(SHAPE) - 1.01):
            compared += 1
            assert theirs[index] == pytest.approx(_trilinear(data, voxel), abs=0.5)
    assert compared > 10


def _trilinear(data, voxel):
    low = np.floor(voxel).astype(int)
    value = 0.0
    for corner in itertools.product((0, 1), repeat=3):
        weight = np.prod([w if c else 1 - w for c, w in zip(corner, voxel - low, strict=True)])
        value += weight * data[tuple(low + corner)]
    return value


def test_displacement_header_and_round_trip(tmp_path, field):
    path = tmp_path / "d.nii.gz"
    nifti.write_displacement(path, field)
    stored = nibabel.load(path)
    assert stored.shape == (*SHAPE, 1, 3)
    assert int(stored.header["intent_code"]) == 1007
    assert stored.get_data_dtype() == np.float32
    read = nifti.read_displacement(path)
    np.testing.assert_array_equal(read.data, field.data)
    np.testing.assert_allclose(read.affine, field.affine, atol=1e-4)


def test_reads_a_field_that_simpleitk_wrote(tmp_path, field):
    nifti.write_displacement(tmp_path / "a.nii.gz", field)
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii.gz")), str(tmp_path / "b.nii.gz"))
    read = nifti.read_displacement(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(read.data, field.data)
    np.testing.assert_allclose(read.affine, field.affine, atol=1e-4)


def test_refuses_an_image_as_a_displacement(tmp_path, data):
    path = save(tmp_path / "a.nii.gz", data, affine("LPS"))
    text = r"expected a displacement field in ITK's .*got shape \(9, 7, 6\) and intent code 0"
    with pytest.raises(ValueError, match=text):
        nifti.read_displacement(path)


def test_an_unwritable_folder_is_named_and_nothing_is_left(tmp_path, data):
    with pytest.raises(
        OSError, match=r"missing: expected a folder that can be written, got 'No such"
    ):
        nifti.write_volume(tmp_path / "missing" / "a.nii.gz", Volume(data, affine("LPS")))
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(
        OSError, match=r"file: expected a folder that can be written, got 'Not a dir"
    ):
        nifti.write_volume(tmp_path / "file" / "a.nii.gz", Volume(data, affine("LPS")))
    (tmp_path / "b.nii.gz").mkdir()
    with pytest.raises(OSError, match=r"b\.nii\.gz: expected a file to write, got a folder"):
        nifti.write_volume(tmp_path / "b.nii.gz", Volume(data, affine("LPS")))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.nii.gz", "file"]


@pytest.mark.parametrize(
    ("name", "kind"), [("a.nii.gz", np.float32), ("a.nii.gz", np.int16), ("a.nii", np.float32)]
)
def test_a_write_that_fails_leaves_the_old_file(tmp_path, data, monkeypatch, name, kind):
    path, data = tmp_path / name, data.astype(kind)
    nifti.write_volume(path, Volume(data, affine("LPS")))
    before = path.read_bytes()

    def fail(slab, sign):  # the header is written by then
        raise OSError("No space left on device")

    monkeypatch.setattr(nifti_writer, "_in_file_order", fail)
    with pytest.raises(OSError, match="No space left"):
        nifti.write_volume(path, Volume(data + 1, affine("LPS")))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("planes", [1, 3, 4, 100])
def test_an_image_made_as_it_is_written_is_the_same_file(tmp_path, monkeypatch, planes):
    """With a last slab that overlaps with the one before, and one slab alone."""
    monkeypatch.setattr(nifti_writer, "_SLAB", planes)
    monkeypatch.setattr(nifti_writer, "_VOXELS", 0)
    values = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
    volume = Volume(values, affine("LPS"))
    sizes = []

    def part(box):
        sizes.append(volume.part(box).shape)
        return volume.part(box)

    nifti.write_parts(tmp_path / "a.nii.gz", part, volume.grid, description="HU")
    nifti.write_volume(tmp_path / "b.nii.gz", volume, description="HU")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert set(sizes) == {(9, 8, min(7, planes))}  # one shape: one compiled program
    np.testing.assert_array_equal(nifti.read_volume(tmp_path / "a.nii.gz").data, values)


def test_numbers_are_compressed_to_what_nibabel_would_write(tmp_path):
    values = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
    nifti.write_volume(tmp_path / "a.nii.gz", Volume(values, affine("LPS")))
    nifti.write_volume(tmp_path / "b.nii", Volume(values, affine("LPS")))
    nifti.write_volume(tmp_path / "c.nii.gz", Volume(values, affine("LPS")))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()
    assert (
        gzip.decompress((tmp_path / "a.nii.gz").read_bytes()) == (tmp_path / "b.nii").read_bytes()
    )
