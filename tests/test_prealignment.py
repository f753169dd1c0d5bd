import nibabel
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation
from thorax import LEFT, RIGHT, SHAPE, grid, thorax

from jaxreg.config import PrealignmentConfig
from jaxreg.engine import prealignment as affine
from jaxreg.engine.linear_choice import local_correlation
from jaxreg.engine.prealignment import prealign
from jaxreg.geometry.reduction import block_mean
from jaxreg.geometry.volume import Volume, transform
from jaxreg.lungs.segmentation import lung_mask
from jaxreg.phantom.pair import phantom_pair

CONFIG = PrealignmentConfig()
PEERS_MM = {"a0001_m3": 3.11, "a0001_m4": 3.48, "cip64_m2": 2.27, "cip64_m5": 2.89}


def linear(*, degrees=(0.0, 0.0, 0.0), shift_mm=(0.0, 0.0, 0.0), scales=(1.0, 1.0, 1.0)):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees)).as_matrix() @ np.diag(scales)
    matrix[:3, 3] = shift_mm
    return matrix


def error_mm(matrix, truth, volume, labels):
    """Mean distance of mapped lung voxels from where they belong."""
    points = transform(volume.affine, np.argwhere(labels > 0)[::50])
    return np.linalg.norm(transform(matrix, points) - transform(truth, points), axis=1).mean()


def moved(truth, **options):
    """The thorax after `truth`, on a grid that went along, and its labels."""
    affine_of_grid = linear(shift_mm=truth[:3, 3]) @ grid()
    volume, labels = thorax(affine=affine_of_grid, matrix=np.linalg.inv(truth), **options)
    return volume, Volume(labels, volume.affine)


TRUTHS = {
    "identity": linear(),
    "table shift": linear(shift_mm=(20.0, -60.0, 75.0)),
    "15 degrees": linear(degrees=(5.0, -9.0, 10.9)),
    "volume +30 %": linear(scales=(1.04, 1.05, 1.19)),
    "volume -30 %": linear(scales=(0.95, 0.92, 0.8)),
    "all": linear(degrees=(-8.0, 9.0, 8.0), shift_mm=(-50.0, 60.0, 60.0), scales=(0.98, 1.03, 0.9)),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_a_linear_map_is_found(name):
    fixed, labels = thorax()
    moving, moving_labels = moved(TRUTHS[name], lung_hu=-780.0, table=True)
    matrix, stage = prealign(fixed, moving, Volume(labels, fixed.affine), moving_labels)
    assert error_mm(matrix, TRUTHS[name], fixed, labels) < 1.0
    assert stage in ("affine", "rigid")
    assert np.linalg.det(matrix[:3, :3]) > 0


@pytest.mark.parametrize("only", ["fixed", "moving", "both"])
@pytest.mark.parametrize("lost", [RIGHT, LEFT])
def test_one_lung_is_enough(only, lost):
    truth = linear(degrees=(3.0, 6.0, -8.0), shift_mm=(30.0, -40.0, 80.0))
    gone = {"consolidated": (lost,)}
    fixed, labels = thorax(**(gone if only != "moving" else {}))
    moving, moving_labels = moved(truth, **(gone if only != "fixed" else {}))
    matrix, _ = prealign(fixed, moving, Volume(labels, fixed.affine), moving_labels)
    kept = np.where(labels == lost, 0, labels)
    assert error_mm(matrix, truth, fixed, kept) < 3.0


@pytest.mark.parametrize("binary", ["fixed", "moving", "both"])
def test_masks_may_leave_the_sides_out(binary):
    truth = TRUTHS["all"]
    fixed, labels = thorax()
    moving, moving_mask = moved(truth)
    fixed_mask = Volume(labels, fixed.affine)
    if binary != "moving":
        fixed_mask = Volume(labels > 0, fixed.affine)
    if binary != "fixed":
        moving_mask = Volume((moving_mask.data > 0).astype(np.uint8), moving.affine)
    matrix, _ = prealign(fixed, moving, fixed_mask, moving_mask)
    assert error_mm(matrix, truth, fixed, labels) < 1.0


@pytest.mark.parametrize("box", [np.s_[:, :, 24:], np.s_[:, :, :36], np.s_[38:, :, :]], ids=str)
@pytest.mark.parametrize("cut", ["fixed", "moving"])
def test_part_of_the_lungs_is_enough(box, cut):
    truth = linear(degrees=(4.0, -5.0, 6.0), shift_mm=(20.0, 10.0, -30.0))
    fixed, labels = thorax()
    moving, moving_labels = moved(truth)
    fixed_mask = Volume(labels, fixed.affine)

    def part(volume):
        offset = np.eye(4)
        offset[:3, 3] = [axis.start or 0 for axis in box]
        return Volume(np.ascontiguousarray(volume.data[box]), volume.affine @ offset)

    if cut == "fixed":
        fixed, fixed_mask = part(fixed), part(fixed_mask)
    else:
        moving, moving_labels = part(moving), part(moving_labels)
    matrix, _ = prealign(fixed, moving, fixed_mask, moving_labels)
    assert error_mm(matrix, truth, fixed, fixed_mask.data) < 3.0


def test_other_orientation_and_spacing_of_the_moving_image():
    truth = TRUTHS["all"]
    fixed, labels = thorax()
    flipped = np.array([[0, 0, 2.5, 0], [-5.0, 0, 0, 0], [0, -3.5, 0, 0], [0, 0, 0, 1]])
    shape = (60, 85, 130)
    flipped[:3, 3] = truth[:3, 3] - flipped[:3, :3] @ ((np.array(shape) - 1) / 2)
    moving, moving_labels = thorax(shape, flipped, matrix=np.linalg.inv(truth))
    matrix, _ = prealign(
        fixed, moving, Volume(labels, fixed.affine), Volume(moving_labels, flipped)
    )
    assert error_mm(matrix, truth, fixed, labels) < 1.5


def test_a_mirrored_patient_is_not_mirrored_back():
    fixed, labels = thorax()
    moving = Volume(fixed.data[::-1], fixed.affine)
    mask = Volume((labels[::-1] > 0), fixed.affine)
    matrix, _ = prealign(fixed, moving, Volume(labels > 0, fixed.affine), mask)
    assert np.linalg.det(matrix[:3, :3]) > 0.5


def test_scales_stay_in_their_bounds():
    fixed, labels = thorax()
    truth = linear(scales=(1.0, 1.0, 0.4))
    moving, moving_labels = moved(truth)
    matrix, _ = prealign(fixed, moving, Volume(labels, fixed.affine), moving_labels)
    scales = np.diag(np.linalg.qr(matrix[:3, :3])[1])
    assert np.all(np.abs(np.log(np.abs(scales))) <= 0.4501)


def test_slope_of_the_ncc_is_its_derivative():
    fixed, labels = thorax()
    moving, moving_labels = moved(TRUTHS["15 degrees"])
    masks = (Volume(labels > 0, fixed.affine), Volume(moving_labels.data > 0, moving.affine))
    smooth = [Volume(ndimage.gaussian_filter(v.data, 5.0), v.affine) for v in (fixed, moving)]
    level = affine._level(*smooth, *masks, 10.0, CONFIG)
    matrix = linear(shift_mm=(2.3, -1.7, 3.1))
    _, slope = level.ncc_and_slope(matrix)
    changes = np.zeros((3, 4))
    for entry in np.ndindex(3, 4):
        # steps of about 3 mm at the lungs' rim: the sampled gradient is smooth over a voxel
        step = np.zeros((4, 4))
        step[entry] = 3.0 if entry[1] == 3 else 0.03
        changes[entry] = (level.ncc(matrix + step) - level.ncc(matrix - step)) / (2 * step[entry])
    for columns in (np.s_[:, 3], np.s_[:, :3]):
        error = np.linalg.norm(slope[columns] - changes[columns])
        assert error < 0.1 * np.linalg.norm(changes[columns])


def failing_fit(broken, free_when_broken):
    fit = affine._fit

    def fitted(level, start, free, centres, limits_mm):
        if free in free_when_broken:
            return broken(start)
        return fit(level, start, free, centres, limits_mm)

    return fitted


def test_falls_back_to_the_last_stage_that_helped(monkeypatch):
    truth = linear(degrees=(0.0, 5.0, 6.0), scales=(1.04, 1.05, 1.19))
    fixed, labels = thorax()
    moving, moving_labels = moved(truth)
    masks = (Volume(labels, fixed.affine), moving_labels)

    def worse(start):
        return start + np.eye(12)[3] * 40.0  # 40 mm to the right

    for free, expected in (((12,), "rigid"), ((6, 12), "moments")):
        with monkeypatch.context() as patch:
            patch.setattr(affine, "_fit", failing_fit(worse, free))
            matrix, stage = prealign(fixed, moving, *masks)
        assert stage == expected
        assert error_mm(matrix, truth, fixed, labels) < 30.0


def test_a_stage_that_loses_overlap_is_refused(monkeypatch):
    fixed, labels = thorax()
    mask = Volume(labels > 0, fixed.affine)
    level = affine._level(fixed, fixed, mask, mask, 10.0, CONFIG)
    # a higher NCC bought with less overlap
    monkeypatch.setattr(affine._Level, "ncc", lambda self, matrix: matrix[0, 3])
    monkeypatch.setattr(affine._Level, "overlap", lambda self, matrix: 0.9 - matrix[1, 3])
    old = linear()
    assert affine._helps(level, linear(shift_mm=(0.1, 0.01, 0.0)), old, 0.02)
    assert not affine._helps(level, linear(shift_mm=(0.1, 0.03, 0.0)), old, 0.02)
    assert not affine._helps(level, linear(shift_mm=(-0.1, 0.0, 0.0)), old, 0.02)


def test_overlap_is_the_dice_coefficient():
    fixed, labels = thorax()
    mask = Volume(labels > 0, fixed.affine)
    level = affine._level(fixed, fixed, mask, mask, 4.0, CONFIG)
    steps = 2
    shifted = np.roll(labels > 0, -steps, axis=0)
    expected = 2 * np.sum(shifted & (labels > 0)) / (2 * np.sum(labels > 0))
    matrix = linear(shift_mm=(steps * fixed.spacing_mm[0], 0.0, 0.0))
    np.testing.assert_allclose(level.overlap(linear()), 1.0, atol=1e-6)
    np.testing.assert_allclose(level.overlap(matrix), expected, atol=0.01)


def test_fluid_in_a_lung_does_not_turn_the_other():
    pair = phantom_pair(3, shape=(72, 60, 68), fixed_phase="exhale")
    sides = [
        Volume(np.where(labels.data > 3, LEFT, np.minimum(labels.data, RIGHT)), labels.affine)
        for labels in (pair.fixed_labels, pair.moving_labels)
    ]
    lung = sides[1].data == RIGHT
    world = transform(pair.moving.affine, np.moveaxis(np.indices(lung.shape), 0, -1))
    height = world[..., 2] + 0.35 * world[..., 1]
    fluid = lung & (height < np.quantile(height[lung], 0.33))
    moving = Volume(np.where(fluid, np.float32(10), pair.moving.data), pair.moving.affine)
    aerated = Volume(np.where(fluid, 0, sides[1].data), moving.affine)
    for lopsided, turned in ((CONFIG.lopsided, False), (10.0, True)):
        config = PrealignmentConfig(lopsided=lopsided)
        matrix, _ = prealign(pair.fixed, moving, sides[0], aerated, config=config)
        points = transform(matrix, pair.fixed_landmarks)
        error = np.linalg.norm(points - pair.moving_landmarks, axis=1).mean()
        assert error > 20 if turned else error < 3  # mm


def test_local_correlation_is_pearsons_in_the_lungs_that_meet():
    rng = np.random.default_rng(5)
    shape = (9, 8, 7)
    images = [Volume(rng.normal(-800, 90, shape).astype(np.float32), np.eye(4)) for _ in "ab"]
    lungs = [Volume(rng.random(shape) < 0.8, np.eye(4)) for _ in "ab"]
    found = local_correlation(*images, *lungs, np.eye(4), config=CONFIG)
    both = lungs[0].data & lungs[1].data

    def reflected(index, n):
        return np.where(index < 0, -1 - index, np.where(index >= n, 2 * n - 1 - index, index))

    def mean(image):
        values = np.zeros(shape)
        for at in np.ndindex(shape):  # the window is mirrored at the border, as in scipy
            around = [reflected(np.arange(i - 2, i + 3), n) for i, n in zip(at, shape, strict=True)]
            window = np.ix_(*around)
            count = both[window].sum()
            values[at] = (image * both)[window].sum() / count if count else 0.0
        return values

    f, m = (np.clip(image.data.astype(float), *CONFIG.window_hu) for image in images)
    f, m = f - mean(f), m - mean(m)
    noise = CONFIG.noise_hu**2
    wanted = mean(f * m) / np.sqrt((mean(f**2) + noise) * (mean(m**2) + noise))
    assert found == pytest.approx(wanted[both].mean(), abs=1e-4)


def test_repeats_bit_for_bit():
    fixed, labels = thorax()
    moving, moving_labels = moved(TRUTHS["all"])
    runs = [prealign(fixed, moving, Volume(labels, fixed.affine), moving_labels) for _ in range(2)]
    np.testing.assert_array_equal(runs[0][0], runs[1][0])


@pytest.mark.parametrize("empty", ["fixed_mask", "moving_mask"])
def test_an_empty_mask_is_refused_with_words(empty):
    fixed, labels = thorax()
    masks = {name: Volume(labels, fixed.affine) for name in ("fixed_mask", "moving_mask")}
    masks[empty] = Volume(np.zeros(SHAPE, np.uint8), fixed.affine)
    with pytest.raises(ValueError, match=f"{empty}: expected a lung mask .* got only zeros"):
        prealign(fixed, fixed, masks["fixed_mask"], masks["moving_mask"])


@pytest.mark.parametrize("case", PEERS_MM)
def test_development_pairs_end_near_the_peers_from_any_start(shared, case):
    rows = np.genfromtxt(shared / "data" / case / "landmarks.csv", delimiter=",", dtype=str)[1:]
    points = rows[rows[:, 0] == "vessel", 1:].astype(float).reshape(-1, 2, 3) * (-1, -1, 1)
    volumes = []
    for name in ("fixed", "moving"):
        image = nibabel.load(shared / "data" / case / f"{name}.nii.gz")
        volume = Volume(np.asarray(image.dataobj, np.float32), image.affine)
        blocks = np.rint(3.0 / np.array(volume.spacing_mm)).astype(int)
        to_blocks = np.diag([*blocks, 1.0])
        to_blocks[:3, 3] = (blocks - 1) / 2
        volumes.append(Volume(block_mean(volume.data, blocks), volume.affine @ to_blocks))
    fixed, moving = volumes
    masks = [lung_mask(volume) for volume in volumes]
    offset = linear(degrees=(5.0, -8.0, 11.6), shift_mm=(58.0, -58.0, 57.0))
    ends = []
    for start in (np.eye(4), offset):
        shifted = [Volume(v.data, start @ v.affine) for v in (moving, masks[1])]
        matrix, stage = prealign(fixed, shifted[0], masks[0], shifted[1])
        assert stage == "affine"
        reached, wanted = transform(matrix, points[:, 0]), transform(start, points[:, 1])
        ends.append(np.linalg.norm(reached - wanted, axis=1).mean())
    assert ends[0] < PEERS_MM[case] + 0.2
    assert ends[1] < ends[0] + 0.3
