"""Labels of any kind of file, and the choice of a reader."""

import nibabel
import numpy as np
import pytest

from jaxreg.geometry.grid import Grid
from jaxreg.io import images
from jaxreg.io.notes import FileWarning

SHAPE = (7, 6, 5)
AFFINE = np.array([[-0.9, 0, 0, 12.5], [0, -1.1, 0, -30], [0, 0, 2.5, -100], [0, 0, 0, 1.0]])


def save(path, data, affine=AFFINE, slope=None):
    image = nibabel.Nifti1Image(data, affine, dtype=data.dtype)
    image.set_sform(affine, 1)
    nibabel.save(image, path)
    if slope:
        raw = bytearray(path.read_bytes())
        raw[112:120] = np.array(slope, "<f4").tobytes()
        path.write_bytes(raw)
    return path


def labels_of(dtype, *values):
    data = np.zeros(SHAPE, dtype)
    data[2:5, 1:4, 1:3] = values[0]
    data[1, 1, 1] = values[-1]
    return data


@pytest.mark.parametrize(
    "data",
    [
        labels_of(np.float32, 5, 3),
        labels_of(np.int32, 2**24 + 1, 2**31 - 1),
        labels_of(np.int64, 2**24 + 3, -(2**31)),
        labels_of(np.float64, 2**24 + 5, 7),
        labels_of(np.uint8, 255, 1),
    ],
)
def test_labels_are_kept_to_the_last_digit(tmp_path, data):
    read = images.read_labels(save(tmp_path / "a.nii", data))
    assert read.data.dtype == np.int32
    np.testing.assert_array_equal(read.data, data)


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**40])
def test_labels_beyond_int32_are_refused(tmp_path, value):
    path = save(tmp_path / "a.nii", labels_of(np.int64, value, 1))
    with pytest.raises(ValueError, match=f"expected labels from -2147483648 to .*, got {value}"):
        images.read_labels(path)


def test_labels_that_are_whole_but_for_rounding(tmp_path):
    rounded = save(tmp_path / "a.nii", labels_of(np.float32, 0.9999999, 3.0000153))
    np.testing.assert_array_equal(images.read_labels(rounded).data, labels_of(np.int32, 1, 3))
    scaled = save(tmp_path / "b.nii", labels_of(np.int16, 100, 20), slope=(0.05 + 1e-9, 0))
    np.testing.assert_array_equal(images.read_labels(scaled).data, labels_of(np.int32, 5, 1))


@pytest.mark.parametrize(("value", "text"), [(2.5, "2.5"), (1.02, "1.01999998"), (np.nan, "nan")])
def test_values_that_are_not_whole_are_refused(tmp_path, value, text):
    path = save(tmp_path / "a.nii", labels_of(np.float32, value, 1))
    with pytest.raises(ValueError, match=f"a.nii: expected whole numbers .* got {text}"):
        images.read_labels(path)


@pytest.mark.parametrize("order", ["other axes", "cropped", "both"])
def test_masks_on_the_same_lattice_need_no_note(tmp_path, order):
    data = labels_of(np.uint8, 4, 9)
    image = nibabel.Nifti1Image(data, AFFINE)
    if order != "other axes":
        image = image.slicer[1:6, 1:4, 1:4]  # everything above 0
    if order != "cropped":
        image = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
        assert image.shape != SHAPE
    path = save(tmp_path / "a.nii", np.asarray(image.dataobj), image.affine)
    read = images.read_labels(path, grid=Grid(SHAPE, AFFINE))
    np.testing.assert_array_equal(read.data, data)
    np.testing.assert_allclose(read.affine, AFFINE, atol=1e-5)


def test_masks_on_another_grid_take_the_nearest_label_with_a_note(tmp_path):
    affine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] -= AFFINE[:3, :3] @ (0.25, 0.25, 0.25)
    data = labels_of(np.uint8, 4, 9)
    path = save(tmp_path / "a.nii", np.kron(data, np.ones((2, 2, 2), np.uint8)), affine)
    with pytest.warns(FileWarning, match="a.nii: these labels are on another grid") as caught:
        read = images.read_labels(path, grid=Grid(SHAPE, AFFINE))
    assert caught[0].message.code == "other-grid"
    np.testing.assert_array_equal(read.data, data)


def test_a_mask_beside_the_image_is_refused(tmp_path):
    affine = AFFINE.copy()
    affine[0, 3] += 500
    path = save(tmp_path / "a.nii", labels_of(np.uint8, 4, 9), affine)
    with pytest.raises(ValueError, match="a.nii: expected labels that overlap with the image"):
        images.read_labels(path, grid=Grid(SHAPE, AFFINE))


def test_a_warning_can_be_sent_to_another_process():
    import pickle

    warning = pickle.loads(pickle.dumps(FileWarning("other-grid", "a.nii: text")))
    assert (warning.code, str(warning)) == ("other-grid", "a.nii: text")


def test_a_path_that_does_not_exist_names_its_neighbours(tmp_path):
    for name in ("visit_2025", "visit_2026", "notes"):
        (tmp_path / name).mkdir()
    with pytest.raises(
        FileNotFoundError,
        match=r"visit_2062: .* no such file or folder\. Did you mean visit_2025 or visit_2026\?$",
    ):
        images.read_image(tmp_path / "visit_2062")
    with pytest.raises(FileNotFoundError, match=r"got no such file or folder\. Check the name\.$"):
        images.read_image(tmp_path / "scan.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"got no folder .*none\. Check the name\.$"):
        images.read_image(tmp_path / "none" / "visit_2025")
