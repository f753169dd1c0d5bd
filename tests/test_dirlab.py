"""DIR-Lab readers, on files written in the layouts of the distribution."""

import dataclasses
import itertools

import numpy as np
import pytest

from jaxreg.datasets import dirlab
from jaxreg.datasets.dirlab_reference import DATASETS

SHAPE = (6, 5, 4)


@pytest.fixture
def small(monkeypatch):
    """All cases have 6 x 5 x 4 voxels; spacings as published."""
    for data in DATASETS.values():
        for number, reference in list(data.cases.items()):
            monkeypatch.setitem(data.cases, number, dataclasses.replace(reference, shape=SHAPE))


def raw_values(seed):
    """Stored values (X, Y, Z), with a voxel outside of the field of view."""
    values = np.random.default_rng(seed).integers(0, 2500, SHAPE).astype("<i2")
    values[0, 0, 0] = -2000
    return values


def write_raw(path, values):
    """x fastest, written voxel by voxel as the format says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nx, ny, nz = values.shape
    order = itertools.product(range(nz), range(ny), range(nx))
    path.write_bytes(b"".join(values[x, y, z].tobytes() for z, y, x in order))


def write_points(path, points):
    """1-based, in columns as the distribution has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{x:5d}\t{y:5d} {z:5d} \n" for x, y, z in points), encoding="utf-8")


def points(seed, count=300):
    return np.random.default_rng(seed).integers(1, np.array(SHAPE) + 1, (count, 3))


def spellings(case):
    """Names of images and landmark files of a 4DCT case, as distributed and flat."""
    pack = f"Case{case}Deploy" if case == 8 else f"Case{case}Pack"
    suffix = "_s" if case == 1 else "-ssm" if case <= 5 else ""
    if case <= 5:
        landmarks = f"ExtremePhases/Case{case}_300_{{phase}}_xyz.txt"
    else:
        landmarks = f"extremePhases/case{case}_dirLab300_{{phase}}_xyz.txt"
    return f"{pack}/Images/case{case}_{{phase}}{suffix}.img", f"{pack}/{landmarks}"


def write_4dct(folder, case, *, flat=False, change=str):
    image, landmarks = spellings(case)
    for k, phase in enumerate(("T00", "T50")):
        names = [change(name.format(phase=phase)) for name in (image, landmarks)]
        names = [name.split("/")[-1] if flat else name for name in names]
        write_raw(folder / names[0], raw_values(10 * case + k))
        write_points(folder / names[1], points(10 * case + k))


@pytest.mark.parametrize("case", range(1, 11))
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("change", [str, str.upper, str.lower])
def test_4dct_in_every_spelling(tmp_path, small, case, flat, change):
    write_4dct(tmp_path, case, flat=flat, change=change)
    read = dirlab.read_case(tmp_path, case)
    assert (read.fixed_phase, read.moving_phase) == ("T00", "T50")
    np.testing.assert_array_equal(read.fixed_landmarks, points(10 * case) - 1)
    np.testing.assert_array_equal(read.moving_landmarks, points(10 * case + 1) - 1)
    in_plane = (0.97, 1.16, 1.15, 1.13, 1.10, 0.97, 0.97, 0.97, 0.97, 0.97)[case - 1]
    assert read.spacing_mm == (in_plane, in_plane, 2.5)
    for k, volume in enumerate((read.read_fixed(), read.read_moving())):
        assert volume.shape == SHAPE
        assert volume.data.dtype == np.float32
        np.testing.assert_allclose(volume.spacing_mm, read.spacing_mm)
        expected = np.maximum(raw_values(10 * case + k).astype(float) - 1024, -1024)
        np.testing.assert_array_equal(volume.data, expected)
    assert dirlab.find_cases(tmp_path) == (case,)


def test_the_feet_are_at_high_z_and_left_and_back_at_high_x_and_y(tmp_path, small):
    write_4dct(tmp_path, 2)
    volume = dirlab.read_case(tmp_path, 2).read_fixed()
    origin, x, y, z = volume.world_from_voxel(
        np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    )
    np.testing.assert_allclose(x - origin, (-1.16, 0, 0))  # RAS: to the left
    np.testing.assert_allclose(y - origin, (0, -1.16, 0))  # to posterior
    np.testing.assert_allclose(z - origin, (0, 0, -2.5))  # to the feet


def test_a_landmark_names_the_voxel_it_was_placed_in(tmp_path, small):
    write_4dct(tmp_path, 7)
    read = dirlab.read_case(tmp_path, 7)
    stored = raw_values(70)
    volume = read.read_fixed()
    for (x, y, z), point in zip(points(70)[:20], read.fixed_landmarks[:20], strict=True):
        offset = 2 * ((x - 1) + 6 * ((y - 1) + 5 * (z - 1)))  # bytes into the raw file
        raw = np.frombuffer(stored.T.tobytes()[offset : offset + 2], "<i2")[0]
        assert volume.data[tuple(point.astype(int))] == max(raw - 1024, -1024)


def test_exhale_can_be_the_fixed_phase(tmp_path, small):
    write_4dct(tmp_path, 4)
    read = dirlab.read_case(tmp_path, 4, fixed_phase="exhale")
    assert (read.fixed_phase, read.moving_phase) == ("T50", "T00")
    np.testing.assert_array_equal(read.fixed_landmarks, points(41) - 1)
    np.testing.assert_array_equal(read.read_moving().data[1:], raw_values(40)[1:] - 1024.0)


@pytest.mark.parametrize("change", [str, str.upper])
def test_copdgene(tmp_path, small, change):
    for case in (1, 10):
        folder = tmp_path / f"copd{case}" / f"copd{case}"
        for k, phase in enumerate(("iBH", "eBH")):
            write_raw(folder / change(f"copd{case}_{phase}CT.img"), raw_values(case + k))
            write_points(folder / change(f"copd{case}_300_{phase}_xyz_r1.txt"), points(case + k))
    read = dirlab.read_case(tmp_path, 10, dataset="copd")
    assert (read.fixed_phase, read.moving_phase) == ("iBH", "eBH")
    assert read.spacing_mm == (0.742, 0.742, 2.5)
    np.testing.assert_array_equal(read.moving_landmarks, points(11) - 1)
    volume = read.read_moving()
    assert volume.data[0, 0, 0] == -1024  # stored as -2000
    np.testing.assert_array_equal(volume.data[1:], raw_values(11)[1:] - 1024.0)
    assert dirlab.find_cases(tmp_path, dataset="copd") == (1, 10)


def test_landmarks_are_read_without_images_and_give_the_initial_tre(tmp_path):
    fixed = np.random.default_rng(0).integers(20, 80, (300, 3))
    moving = fixed + np.array([3, -4, 2])
    write_points(tmp_path / "Case6_dirlab300_T00_xyz.txt", fixed)
    write_points(tmp_path / "case6_dirLab300_T50_xyz.txt", moving)
    read = dirlab.read_case(tmp_path, 6)
    tre = np.linalg.norm((read.moving_landmarks - read.fixed_landmarks) * read.spacing_mm, axis=1)
    np.testing.assert_allclose(tre, np.sqrt(25 * 0.97**2 + 25.0))
    with pytest.raises(
        FileNotFoundError, match=r"expected Case6Pack/Images/case6_T00_s\.img \(or "
    ):
        read.read_fixed()


def test_sampled_landmarks_of_six_phases(tmp_path, small):
    for k, phase in enumerate(("T00", "T10", "T20", "T30", "T40", "T50")):
        name = f"Case5Pack/Sampled4D/case5_4D-75_{phase}.txt"
        write_points(tmp_path / name, points(k, count=75))
    read = dirlab.read_sampled_landmarks(tmp_path, 5)
    assert read.shape == (6, 75, 3)
    np.testing.assert_array_equal(read[4], points(4, count=75) - 1)


@pytest.mark.parametrize(
    ("dataset", "case", "shape", "spacing", "initial", "observers"),
    [
        ("4dct", 1, (256, 256, 94), 0.97, 3.89, 0.85),
        ("4dct", 2, (256, 256, 112), 1.16, 4.34, 0.70),
        ("4dct", 5, (256, 256, 106), 1.10, 7.48, 0.92),
        ("4dct", 7, (512, 512, 136), 0.97, 11.03, 0.81),
        ("4dct", 8, (512, 512, 128), 0.97, 14.99, 1.03),
        ("copd", 1, (512, 512, 121), 0.625, 26.33, 0.65),
        ("copd", 8, (512, 512, 115), 0.586, 26.46, 0.96),
    ],
)
def test_published_table(dataset, case, shape, spacing, initial, observers):
    reference = DATASETS[dataset].cases[case]
    assert reference.shape == shape
    assert reference.spacing_mm == (spacing, spacing, 2.5)
    assert (reference.initial_tre_mm, reference.observers_mm) == (initial, observers)


def test_published_means():
    cases = DATASETS["4dct"].cases
    assert tuple(cases) == tuple(DATASETS["copd"].cases) == tuple(range(1, 11))
    assert np.mean([r.initial_tre_mm for r in cases.values()]) == pytest.approx(8.46, abs=0.005)
    assert cases[8].observers_sd_mm == 2.19
    assert DATASETS["copd"].cases[1].observers_sd_mm is None
    observers = [r.observers_mm for r in DATASETS["copd"].cases.values()]
    assert np.mean(observers) == pytest.approx(0.82, abs=0.005)


@pytest.mark.parametrize("count", [0, 299, 301])
def test_another_number_of_landmarks_is_refused(tmp_path, small, count):
    write_4dct(tmp_path, 1)
    path = tmp_path / "Case1Pack/ExtremePhases/Case1_300_T50_xyz.txt"
    write_points(path, points(0, count=count))
    with pytest.raises(
        ValueError, match=f"T50_xyz.txt: expected 300 landmarks, got {count}. Downl"
    ):
        dirlab.read_case(tmp_path, 1)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("1 2", "expected three numbers x y z, got '1 2' in line 1"),
        ("1 2 three", "expected three numbers x y z, got '1 2 three' in line 1"),
        (
            "0 2 3",
            r"expected 1-based voxels of an image \(6, 5, 4\), got \(0.0, 2.0, 3.0\) in line 1",
        ),
        (
            "1 6 3",
            r"expected 1-based voxels of an image \(6, 5, 4\), got \(1.0, 6.0, 3.0\) in line 1",
        ),
        ("1 2 nan", "expected 1-based voxels"),
    ],
)
def test_bad_landmarks_are_refused(tmp_path, small, line, text):
    write_4dct(tmp_path, 1)
    path = tmp_path / "Case1Pack/ExtremePhases/Case1_300_T00_xyz.txt"
    lines = [line, *path.read_text(encoding="utf-8").splitlines()[1:]]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=text):
        dirlab.read_case(tmp_path, 1)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (
            239,
            r"expected 6 x 5 x 4 int16 = 240 bytes for DIR-Lab 4DCT case 1, got 239 bytes = 3\.98",
        ),
        (180, r"got 180 bytes = 3 slices; that is the size of case 3\. Unpack or download"),
        (480, r"got 480 bytes = 8 slices\. Unpack"),
    ],
)
def test_a_wrong_size_is_refused_and_explained(tmp_path, small, monkeypatch, size, text):
    cases = DATASETS["4dct"].cases
    monkeypatch.setitem(cases, 3, dataclasses.replace(cases[3], shape=(6, 5, 3)))
    write_4dct(tmp_path, 1)
    (tmp_path / "Case1Pack/Images/case1_T00_s.img").write_bytes(bytes(size))
    with pytest.raises(ValueError, match=text) as info:
        dirlab.read_case(tmp_path, 1).read_fixed()
    assert "case1_T00_s.img" in str(info.value)


def test_missing_files_say_what_was_looked_for_and_where_to_ask(tmp_path, small):
    write_4dct(tmp_path, 1)
    (tmp_path / "Case1Pack/ExtremePhases/Case1_300_T50_xyz.txt").unlink()
    text = r"expected Case1Pack/ExtremePhases/Case1_300_T50_xyz\.txt .* Request the data at https"
    with pytest.raises(FileNotFoundError, match=text) as info:
        dirlab.read_case(tmp_path, 1)
    assert str(tmp_path) in str(info.value)
    with pytest.raises(
        FileNotFoundError, match=r"copd1/copd1_300_iBH_xyz_r1\.txt, there or .*got none"
    ):
        dirlab.find_cases(tmp_path, dataset="copd")
    with pytest.raises(FileNotFoundError, match="nowhere: expected landmark files of DIR-Lab 4DCT"):
        dirlab.find_cases(tmp_path / "nowhere")


def test_copies_are_refused(tmp_path, small):
    write_4dct(tmp_path, 1)
    write_4dct(tmp_path, 1, flat=True)
    with pytest.raises(
        ValueError, match="expected one landmarks file .* case 1 T00, got .*, .*Remove"
    ):
        dirlab.read_case(tmp_path, 1)


def test_case_1_is_not_case_10(tmp_path, small):
    write_4dct(tmp_path, 10)
    assert dirlab.find_cases(tmp_path) == (10,)
    with pytest.raises(FileNotFoundError, match="Case1Pack"):
        dirlab.read_case(tmp_path, 1)


def test_unknown_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="case: expected 1 to 10, got 11"):
        dirlab.read_case(tmp_path, 11)
    with pytest.raises(ValueError, match="dataset: expected 4dct or copd, got 'popi'"):
        dirlab.read_case(tmp_path, 1, dataset="popi")
    with pytest.raises(ValueError, match="fixed_phase: expected inhale or exhale, got 'T00'"):
        dirlab.read_case(tmp_path, 1, fixed_phase="T00")
