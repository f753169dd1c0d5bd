import nibabel
import numpy as np
import pytest
from thorax import LEFT, RIGHT, SHAPE, SPACING, dice, grid, thorax

from jaxreg.config import LungConfig
from jaxreg.geometry.volume import Volume, resample
from jaxreg.lungs import segmentation as lungs
from jaxreg.lungs.segmentation import lung_mask

PAIRS = ("a0001_m3", "a0001_m4", "cip64_m2", "cip64_m5")


def assert_found(volume, labels, least=0.97):
    found = lung_mask(volume)
    assert found.data.dtype == np.uint8
    assert found.shape == volume.shape
    np.testing.assert_array_equal(found.affine, volume.affine)
    for side in (RIGHT, LEFT):
        if np.any(labels == side):
            assert dice(found.data == side, labels == side) > least
        else:
            assert np.count_nonzero(found.data == side) < 0.005 * found.data.size
    return found.data


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"table": True},
        {"touching": True},
        {"consolidated": (RIGHT,)},
        {"consolidated": (LEFT,)},
        {"lung_hu": -650.0},  # exhale
        {"lung_hu": -920.0},  # emphysema
        {"noise": 100.0},
    ],
    ids=str,
)
def test_both_lungs_are_found(options):
    assert_found(*thorax(**options))


def test_trachea_main_bronchi_and_table_are_left_out_and_nodules_and_vessels_kept():
    volume, labels = thorax(table=True)
    found = lung_mask(volume).data
    airways = (volume.data < -900) & (labels == 0)
    airways[:, : SHAPE[1] // 3] = False  # the table
    airways[[*range(34), *range(50, SHAPE[0])]] = False  # air around the body
    assert airways.sum() > 60
    assert np.mean(found[airways] > 0) < 0.1
    solid = (labels > 0) & (volume.data > -100)  # open to the mediastinum at the hila
    assert np.mean(found[solid] > 0) > 0.97


@pytest.mark.parametrize(
    "spacing", [(3.0, 0.9, 4.0), (1.7, 1.7, 8.0), (2.0, 7.0, 3.0), (8.0, 2.5, 3.0), (5.0, 5.0, 5.0)]
)
def test_any_spacing(spacing):
    shape = tuple(np.rint(np.array(SHAPE) * SPACING / np.array(spacing)).astype(int).tolist())
    volume, labels = thorax(shape, grid(shape, spacing))
    assert_found(volume, labels, least=0.95)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SPL", "PIR"])
def test_any_orientation_gives_the_same_mask(axes):
    volume, _ = thorax()
    image = nibabel.Nifti1Image(volume.data, volume.affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(volume.affine),
        nibabel.orientations.axcodes2ornt(axes),
    )
    turned = image.as_reoriented(turn)
    found = lung_mask(Volume(turned.get_fdata(dtype=np.float32), turned.affine))
    expected = nibabel.orientations.apply_orientation(lung_mask(volume).data, turn)
    np.testing.assert_array_equal(found.data, expected)


def test_oblique_axes():
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr([[1.0, 0.2, 0.1], [-0.2, 1.0, 0.15], [0.1, 0.1, 1.0]])[0]
    turn[:3, :3] *= np.sign(np.diag(turn[:3, :3]))
    assert np.linalg.det(turn[:3, :3]) > 0
    assert_found(*thorax(affine=turn @ grid()))


@pytest.mark.parametrize("padding", [-1024.0, -2000.0, -3024.0])
def test_circle_of_the_field_of_view(padding):
    volume, labels = thorax(table=True)
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE[:2]), indexing="ij")
    outside = (x**2 + y**2 > 1)[..., None]
    assert_found(Volume(np.where(outside, padding, volume.data), volume.affine), labels)


@pytest.mark.parametrize(
    "box",
    [
        np.s_[:, :, 16:40],  # apices and bases
        np.s_[:, :, 29:],
        np.s_[:, :, :29],  # no trachea
        np.s_[22:, :, :],  # lateral part of the left lung
        np.s_[42:, :, :],  # no left lung
        np.s_[:, 31:, :],  # no back, no spine
        np.s_[:, :34, :],  # no front
        np.s_[17:66, 20:48, 16:47],  # all six sides
    ],
    ids=str,
)
def test_lungs_cut_by_the_volume(box):
    volume, labels = thorax()
    part = np.ascontiguousarray(volume.data[box])
    assert_found(Volume(part, volume.affine), labels[box], least=0.95)


def test_result_does_not_vary_and_input_stays():
    volume, _ = thorax()
    before = volume.data.copy()
    np.testing.assert_array_equal(lung_mask(volume).data, lung_mask(volume).data)
    np.testing.assert_array_equal(volume.data, before)


def test_foam_between_the_body_and_the_table_is_no_lung():
    volume, labels = thorax()
    x, y, _ = np.moveaxis(volume.world_from_voxel(np.moveaxis(np.indices(SHAPE), 0, -1)), -1, 0)
    hu = np.array(volume.data)
    below = (np.abs(x) < 130) & (hu < -900)
    hu[below & (y < -60)] = 50.0
    foam = (np.abs(x) < 90) & (y > -122) & (y < -108)
    hu[foam] = -800.0
    scan = Volume(hu, volume.affine)
    everything = lung_mask(scan, config=LungConfig(least_depth=0.01))
    assert np.mean(everything.data[foam] > 0) > 0.5
    found = lung_mask(scan).data
    assert not found[foam].any()
    assert dice(found > 0, labels > 0) > 0.97


@pytest.mark.parametrize("lung_hu", [-850.0, -780.0])
def test_gas_of_the_bowel_is_no_lung_however_much_tissue_blurs_into_it(lung_hu):
    shape = (84, 68, 72)
    volume, labels = thorax(shape, lung_hu=lung_hu)
    x, y, z = np.moveaxis(volume.world_from_voxel(np.moveaxis(np.indices(shape), 0, -1)), -1, 0)
    bowel = ((x + 50) / 45) ** 2 + ((y - 45) / 32) ** 2 + ((z + 140) / 28) ** 2
    hu = np.array(volume.data)
    hu[bowel < 1] = (-960 + 900 * np.maximum(bowel - 0.55, 0))[bowel < 1]
    assert -920 < np.median(hu[(bowel < 1) & (hu < -450)]) < -850
    scan = Volume(hu, volume.affine)
    blind = lung_mask(scan, config=LungConfig(gas_contrast_hu=1000.0)).data
    assert np.mean(blind[bowel < 0.5] > 0) > 0.5
    found = lung_mask(scan).data
    assert not found[bowel < 1].any()
    assert dice(found > 0, labels > 0) > 0.97


def test_a_lung_that_a_pneumothorax_joins_is_found():
    volume, labels = thorax()
    x, y, z = np.moveaxis(volume.world_from_voxel(np.moveaxis(np.indices(SHAPE), 0, -1)), -1, 0)
    right = labels == 1
    hu = np.array(volume.data)
    noise = np.random.default_rng(4).normal(scale=8, size=hu.shape)
    hu[right] = (-1000 + noise)[right]
    z_middle = z[right].mean()
    joined = (np.abs(x) < 60) & (np.abs(y - 20) < 12) & (np.abs(z - z_middle) < 20)
    hu[joined & (labels == 0)] = -1000  # through the thin junction of the pleurae
    left = labels == 2
    hu[left & (z < z_middle - 40)] = -1000  # gas is the greater part of the component
    assert np.median(hu[(labels > 0) | joined]) < -970
    scan = Volume(hu.astype(np.float32), volume.affine)
    found = lung_mask(scan).data
    assert np.mean(found[left] > 0) > 0.95
    with pytest.raises(ValueError, match="aerated lung"):
        lung_mask(scan, config=LungConfig(lung_share=0.99))


def test_the_dome_of_the_diaphragm_with_lung_all_around_it_is_no_lung():
    volume, labels = thorax()
    x, y, z = np.moveaxis(volume.world_from_voxel(np.moveaxis(np.indices(SHAPE), 0, -1)), -1, 0)
    dome = (np.hypot(x - 66, y) / 38) ** 2 + ((z + 100) / 70) ** 2 < 1
    hu = np.where(dome, np.float32(40.0), volume.data)
    found = lung_mask(Volume(hu, volume.affine)).data
    assert np.mean(found[dome] > 0) < 0.07
    assert dice(found > 0, (labels > 0) & ~dome) > 0.97
    filled = lung_mask(Volume(hu, volume.affine), config=LungConfig(hole_mm2=1e6)).data
    assert np.mean(filled[dome] > 0) > np.mean(found[dome] > 0) + 0.05


@pytest.mark.parametrize("values", ["soft tissue", "fractions", "offset", "air", "constant"])
def test_no_lungs_are_refused_with_words(values):
    hu = thorax(lung_hu=30.0)[0].data if values == "soft tissue" else thorax()[0].data
    hu = {
        "soft tissue": np.maximum(hu, -100.0),
        "fractions": (hu + 1000) / 2000,
        "offset": hu + 1024,
        "air": np.full(hu.shape, -1000.0),
        "constant": np.full(hu.shape, 0.0),
    }[values]
    with pytest.raises(ValueError, match="volume: expected a chest CT in HU") as caught:
        lung_mask(Volume(hu, grid()))
    text = str(caught.value)
    assert f"values from {hu.min():.0f} to {hu.max():.0f}" in text
    assert text.endswith("Convert the image to HU, or pass a lung mask.")
    assert "\n" not in text


def test_the_side_of_a_single_lung_comes_from_the_spine():
    volume, labels = thorax(consolidated=(LEFT,))
    found = lungs.lung_mask(Volume(volume.data[30:], volume.affine))
    assert dice(found.data == RIGHT, labels[30:] == RIGHT) > 0.97


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("name", ["fixed", "moving"])
def test_development_pairs_agree_with_the_supplied_masks(shared, case, name):
    image, labels = (
        nibabel.load(shared / "data" / case / f"{name}{kind}.nii.gz") for kind in ("", "_labels")
    )
    volume = Volume(np.asarray(image.dataobj, np.float32), image.affine)
    expected = np.asarray(labels.dataobj).astype(np.uint8)
    found = lung_mask(volume).data
    assert dice(found > 0, expected > 0) >= 0.97
    for side in (RIGHT, LEFT):
        assert dice(found == side, expected == side) >= 0.96
    coarse = np.diag([2.0, 2.0, 6.0 / volume.spacing_mm[2], 1.0])
    shape = np.rint(np.array(volume.shape) / np.diag(coarse)[:3]).astype(int).tolist()
    thick = resample(volume, volume.affine @ coarse, shape)
    truth = resample(Volume(expected, volume.affine), thick.affine, shape, order=0).data
    assert dice(lung_mask(thick).data > 0, truth > 0) >= 0.955
