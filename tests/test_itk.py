"""MetaImage and NRRD, compared with what SimpleITK makes of them."""

import numpy as np
import pytest
import SimpleITK as sitk

from jaxreg.io import images as reading
from jaxreg.io import itk
from jaxreg.io.notes import FileWarning

SHAPE = (7, 6, 5)
SPACING = (0.9, 1.1, 2.5)


@pytest.fixture
def image():
    """An oblique int16 image."""
    values = np.random.default_rng(0).integers(-1000, 400, SHAPE).astype(np.int16)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing(SPACING)
    image.SetOrigin((-12.5, 30.0, -100.0))
    c, s = np.cos(0.2), np.sin(0.2)
    image.SetDirection((c, -s, 0, s, c, 0, 0, 0, -1))
    return image


def assert_same(volume, image):
    assert volume.shape == image.GetSize()
    for index in [(0, 0, 0), (6, 0, 0), (1, 5, 2), (3, 2, 4)]:
        assert volume.data[index] == image[index]
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(
            volume.world_from_voxel(np.array(index)), lps * (-1, -1, 1), atol=1e-4
        )


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr", "a.nii.gz", "a.nii"])
def test_every_format_gives_the_same_volume(tmp_path, image, name):
    sitk.WriteImage(image, str(tmp_path / name))
    volume = reading.read_image(tmp_path / name)
    assert volume.data.dtype == np.float32
    assert_same(volume, image)
    assert reading.read_grid(tmp_path / name).matches(volume.grid)


@pytest.mark.parametrize("kind", ["slice", "two slices", "series", "vector"])
def test_refuses_what_is_not_one_3d_image(tmp_path, image, kind):
    other = {
        "slice": image[:, :, 0],
        "two slices": image[:, :, :1],
        "series": sitk.JoinSeries([image, image]),
        "vector": sitk.Compose([image, image]),
    }[kind]
    sitk.WriteImage(other, str(tmp_path / "a.mha"))
    for read in (reading.read_image, reading.read_grid):
        with pytest.raises(
            ValueError, match=r"a\.mha: expected a 3-D image with one number per voxel"
        ):
            read(tmp_path / "a.mha")


def test_refuses_missing_broken_and_unknown_files(tmp_path, image):
    with pytest.raises(FileNotFoundError, match=r"a\.mha: expected a file or folder, got no"):
        reading.read_image(tmp_path / "a.mha")
    (tmp_path / "b.mha").write_text("hello\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"b\.mha: expected a complete image file, got no Meta"):
        reading.read_image(tmp_path / "b.mha")
    sitk.WriteImage(image, str(tmp_path / "c.nrrd"))
    whole = (tmp_path / "c.nrrd").read_bytes()
    (tmp_path / "c.nrrd").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"c\.nrrd: expected a complete image file, got") as info:
        reading.read_image(tmp_path / "c.nrrd")
    assert "\n" not in str(info.value)
    (tmp_path / "d.png").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"d\.png: expected a file ending in \.nii, .* got '\.png'"
    ):
        reading.read_image(tmp_path / "d.png")


def test_values_that_are_not_finite_name_the_file(tmp_path):
    values = np.full((5, 6, 7), np.nan, np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "a.mha"))
    with pytest.raises(ValueError, match=r"a\.mha: data: expected finite values"):
        reading.read_image(tmp_path / "a.mha")


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float64]
)
def test_compressed_values_of_every_type(tmp_path, image, name, dtype):
    values = np.random.default_rng(0).integers(0, 100, SHAPE[::-1]).astype(dtype)
    other = sitk.GetImageFromArray(values)
    other.CopyInformation(image)
    sitk.WriteImage(other, str(tmp_path / name), True)
    read, grid = itk.read_values(tmp_path / name)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, values.T)
    assert_same(reading.read_image(tmp_path / name), other)
    assert grid.matches(itk.read_grid(tmp_path / name))


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_no_flipped_bit_of_compressed_values_is_read(tmp_path, image, name):
    """SimpleITK 2.5.7 reads every such .mha file, and none of them as it was."""
    sitk.WriteImage(image, str(tmp_path / name), True)
    whole = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(1)
    length = 300  # of the compressed values, at least
    for position in rng.integers(len(whole) - length, len(whole), 200):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        (tmp_path / f"b{name}").write_bytes(damaged)
        with pytest.raises(ValueError, match="expected a complete image file, got .*. Copy"):
            reading.read_image(tmp_path / f"b{name}")


MHA = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "DimSize": "7 6 5",
    "ElementSpacing": "0.9 1.1 2.5",
    "Offset": "1 2 3",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "ElementType": "MET_UCHAR",
    "ElementDataFile": "LOCAL",
}
NRRD = {
    "type": "uint8",
    "dimension": "3",
    "space": "left-anterior-superior",
    "sizes": "7 6 5",
    "space directions": "(0.9,0,0) (0,1.1,0) (0,0,2.5)",
    "encoding": "raw",
    "space origin": "(1,2,3)",
}


def write_text(path, changes, values):
    """An .mha or .nrrd file with fields changed, or left out where they are None."""
    base = MHA if path.suffix == ".mha" else NRRD
    equals = " = " if path.suffix == ".mha" else ": "
    fields = {key: value for key, value in {**base, **changes}.items() if value is not None}
    if "ElementDataFile" in fields:
        fields["ElementDataFile"] = fields.pop("ElementDataFile")  # must be the last
    lines = [f"{key}{equals}{value}" for key, value in fields.items()]
    if path.suffix == ".nrrd":
        lines = ["NRRD0004", *lines]
        lines += [""] if fields.get("data file") != "LIST" else []
    path.write_bytes("\n".join(lines).encode() + b"\n" + values)
    return path


COUNT = bytes(range(210))  # one for each voxel, x fastest


@pytest.mark.parametrize(
    ("name", "changes", "text"),
    [
        ("a.mha", {"NDims": "900000000"}, "got 900000000 as NDims"),
        ("a.mha", {"NDims": "-3"}, "got -3 as NDims"),
        ("a.mha", {"NDims": "3.5"}, "got '3.5' as NDims"),
        ("a.mha", {"NDims": "4"}, "got 3 numbers as DimSize, not 4"),
        ("a.mha", {"DimSize": "7 6 0"}, "got '7 6 0' as DimSize"),
        ("a.mha", {"DimSize": "70000 60000 50000"}, "bytes where the header says 210000000000000"),
        ("a.mha", {"ElementSpacing": "1 nan 1"}, "got '1 nan 1' as ElementSpacing"),
        ("a.mha", {"ElementType": "MET_STRING"}, "got 'MET_STRING' as ElementType"),
        ("a.mha", {"BinaryData": "False"}, "characters where the header says|no numbers"),
        ("a.mha", {"ElementDataFile": None}, "no MetaImage header|without ElementDataFile"),
        ("a.nrrd", {"dimension": "99999"}, "got 99999 as dimension"),
        ("a.nrrd", {"sizes": "7 -6 5"}, "got '7 -6 5' as sizes"),
        ("a.nrrd", {"sizes": "70000 60000 50000"}, "bytes where the header says 2100000000000"),
        ("a.nrrd", {"encoding": "rot13"}, "got type 'uint8' and encoding 'rot13'"),
        ("a.nrrd", {"space directions": "(1,0,0) (0,1,0)"}, "got 2 space directions of 3 axes"),
        ("a.nrrd", {"space origin": "(a,b,c)"}, "got 'a,b,c' as space origin"),
        ("a.nrrd", {"Space": "left-posterior-superior"}, "got the field 'space' twice"),
        ("a.nrrd", {"space units": '"mm" "mm" "cm"'}, "got 'cm, mm' as space units"),
        ("a.mha", {"DistanceUnits": "parsec"}, "got 'parsec' as DistanceUnits"),
        ("a.mha", {"Origin": "7 7 7"}, "got Offset and Origin that differ"),
        ("a.mha", {"Rotation": "0 1 0 -1 0 0 0 0 1"}, "got TransformMatrix and Rotation that diff"),
    ],
)
def test_absurd_headers_are_refused(tmp_path, name, changes, text):
    path = write_text(tmp_path / name, changes, COUNT)
    with pytest.raises(ValueError, match=f"{name}: expected a complete image file, .*({text})"):
        reading.read_image(path)


@pytest.mark.parametrize(
    ("name", "changes", "text"),
    [
        ("a.mha", {"ElementSpacing": None}, "expected ElementSpacing, the size of a voxel, got"),
        ("a.nrrd", {"space": None}, "expected an orientation, 'space' .* got none"),
        ("a.nrrd", {"space directions": None}, "expected an orientation, .* got no space dir"),
        ("a.mha", {"ElementSpacing": "1 0 1"}, "affine: expected a finite invertible matrix"),
    ],
)
def test_images_without_geometry_are_refused(tmp_path, name, changes, text):
    path = write_text(tmp_path / name, changes, COUNT)
    for read in (reading.read_image, reading.read_grid):
        with pytest.raises(ValueError, match=f"{name}: {text}"):
            read(path)


@pytest.mark.parametrize(
    ("name", "changes", "factor"),
    [
        ("a.mha", {"DistanceUnits": "cm"}, 10.0),
        ("a.mha", {"DistanceUnits": "um"}, 1e-3),
        ("a.mha", {"DistanceUnits": "?", "Origin": "1  2 3"}, 1.0),
        ("a.nrrd", {"space units": '"mm" "mm" "mm"'}, 1.0),
        ("a.nrrd", {"space units": '"m" "m" "m"'}, 1000.0),
        ("a.nrrd", {"space units": '"microns" "microns" "microns"'}, 1e-3),
        ("a.nrrd", {"space units": '"" "" ""'}, 1.0),
    ],
)
def test_lengths_are_millimetres_whatever_the_unit(tmp_path, name, changes, factor):
    plain = reading.read_grid(write_text(tmp_path / name, {}, COUNT))
    grid = reading.read_grid(write_text(tmp_path / name, changes, COUNT))
    np.testing.assert_allclose(grid.affine[:3], plain.affine[:3] * factor, rtol=1e-9)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_values_that_the_header_does_not_count_are_told(tmp_path, name):
    path = write_text(tmp_path / name, {}, COUNT + COUNT[:42])
    text = f"{name}: the file holds 42 bytes more than the header says"
    with pytest.warns(FileWarning, match=text) as told:
        volume = reading.read_image(path)
    assert [warning.message.code for warning in told] == ["surplus-values"]
    np.testing.assert_array_equal(volume.data.ravel(order="F"), list(COUNT))


@pytest.mark.filterwarnings("error")
def test_a_few_bytes_at_the_end_do_not_matter(tmp_path):
    volume = reading.read_image(write_text(tmp_path / "a.mha", {}, COUNT + b"\r\n"))
    np.testing.assert_array_equal(volume.data.ravel(order="F"), list(COUNT))


def test_left_anterior_superior_is_not_turned(tmp_path):
    volume = reading.read_image(write_text(tmp_path / "a.nrrd", {}, COUNT))
    np.testing.assert_allclose(volume.affine[:3, :3], np.diag([-0.9, 1.1, 2.5]))
    np.testing.assert_allclose(volume.affine[:3, 3], (-1, 2, 3))
    np.testing.assert_array_equal(volume.data[1, 2, 3], 1 + 7 * (2 + 6 * 3))


def test_values_in_files_of_slices_in_text_and_most_significant_byte_first(tmp_path):
    for z in range(5):
        (tmp_path / f"s{z:02d}.raw").write_bytes(COUNT[42 * z : 42 * (z + 1)])
    names = "\n".join(f"s{z:02d}.raw" for z in range(5)).encode()
    plain = np.array(list(COUNT))
    variants = [
        ("a.mha", {"ElementDataFile": "LIST"}, names),
        ("a.mha", {"ElementDataFile": "s%02d.raw 0 4 1"}, b""),
        ("a.nrrd", {"data file": "LIST"}, names),
        ("a.nrrd", {"data file": "s%02d.raw 0 4 1 2"}, b""),
        ("a.mha", {"BinaryData": "False"}, " ".join(map(str, COUNT)).encode()),
        ("a.nrrd", {"encoding": "ascii"}, " ".join(map(str, COUNT)).encode()),
        (
            *("a.mha", {"BinaryDataByteOrderMSB": "True", "ElementType": "MET_SHORT"}),
            plain.astype(">i2").tobytes(),
        ),
        ("a.nrrd", {"endian": "big", "type": "short"}, plain.astype(">i2").tobytes()),
        ("a.nrrd", {"byte skip": "-1"}, b"more" + COUNT),
    ]
    for name, changes, values in variants:
        path = write_text(tmp_path / name, changes, values)
        np.testing.assert_array_equal(
            reading.read_image(path).data, plain.reshape(SHAPE, order="F"), err_msg=str(changes)
        )


def test_a_missing_file_with_the_values_is_named(tmp_path, image):
    for name in ("a.mhd", "a.nhdr"):
        sitk.WriteImage(image, str(tmp_path / name))
    for raw in ("a.raw", "a.raw.gz"):
        (tmp_path / raw).unlink(missing_ok=True)
    for name in ("a.mhd", "a.nhdr"):
        with pytest.raises(
            FileNotFoundError, match=r"a\.raw.*: expected the voxel values that the header names"
        ):
            reading.read_image(tmp_path / name)


@pytest.fixture
def vectors(image):
    """A field of LPS vectors on the oblique grid."""
    values = np.random.default_rng(1).normal(0, 4, (*SHAPE, 3))
    field = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0, 3)), True)
    field.CopyInformation(image)
    return field


@pytest.mark.parametrize("name", ["1.mha", "1.mhd", "1.nrrd", "1.nii.gz", "1.nii"])
def test_a_field_maps_points_as_itk_does(tmp_path, vectors, name):
    path = tmp_path / name
    sitk.WriteImage(sitk.Cast(vectors, sitk.sitkVectorFloat32), str(path))
    assert reading.find_displacement(tmp_path, "1") == path
    field = reading.read_displacement(path)
    transform = sitk.DisplacementFieldTransform(sitk.Image(vectors))  # takes its image away
    for index in [(1.0, 2.0, 3.0), (2.5, 3.25, 1.5)]:
        lps = np.array(vectors.TransformContinuousIndexToPhysicalPoint(index))
        expected = np.array(transform.TransformPoint(lps)) * (-1, -1, 1)
        (found,) = field.transform_points((lps * (-1, -1, 1))[None])
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_fields_that_are_none_are_refused(tmp_path, image, vectors):
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(ValueError, match="a.mha: expected a displacement field, three numbers"):
        reading.read_displacement(tmp_path / "a.mha")
    with pytest.raises(FileNotFoundError, match="expected one displacement field b .* got none"):
        reading.find_displacement(tmp_path, "b")
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    with pytest.raises(FileNotFoundError, match=r"got a\.mha, a\.nrrd"):
        reading.find_displacement(tmp_path, "a")
