"""Series of phases on generated respiratory motion: registration, files, commands."""

import csv
import json

import numpy as np
import pytest
import scipy.ndimage

from jaxreg.config import LungGridConfig, RegistrationConfig, override
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import read_displacement, read_volume, write_volume
from jaxreg.io.series import read_series
from jaxreg.ops.temporal import smoothing_matrix
from jaxreg.phantom.series import phantom_series
from jaxreg.pipeline.registration import register_volumes
from jaxreg.pipeline.series import register_series
from jaxreg.pipeline.series_result import SERIES_SET

pytestmark = pytest.mark.usefixtures("quick_compilation")

GRID = (48, 40, 48)
CONFIG = RegistrationConfig(grid=LungGridConfig(shape=GRID))
PHASES = 4


@pytest.fixture(scope="module")
def breath():
    return phantom_series(5, phases=PHASES, shape=(52, 44, 48), motion=20.0)


@pytest.fixture(scope="module")
def registered(breath):
    return register_series(breath.phases, masks=breath.labels, reference=1, config=CONFIG)


@pytest.fixture(scope="module")
def saved(breath, registered, tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    registered.save(folder, points=breath.trajectories[1][:7], labels=list("abcdefg"))
    return folder


def errors_mm(found, truth):
    return np.linalg.norm(found - truth, axis=-1)


def test_a_breath_begins_inhaled_and_returns(breath):
    volumes = [np.count_nonzero(labels.data) for labels in breath.labels]
    assert np.argmax(volumes) == 0 and np.argmin(volumes) == 2
    moved = errors_mm(breath.trajectories, breath.trajectories[:1]).mean(axis=1)
    assert np.argmax(moved) == 2 and moved[2] > 5.0
    # hysteresis: the second and the fourth phase would be alike without
    assert errors_mm(breath.trajectories[1], breath.trajectories[3]).mean() > 0.1


def test_one_phase_is_no_breath():
    with pytest.raises(ValueError, match="phases: expected at least 2, got 1"):
        phantom_series(3, phases=1)


def test_points_are_followed_through_all_phases(breath, registered):
    truth = breath.trajectories
    found = registered.trajectories(truth[1])
    np.testing.assert_array_equal(found[1], truth[1])
    before = errors_mm(truth[1], truth).mean()
    after = errors_mm(found, truth)
    assert after.mean() < 0.25 * before
    # no worse than a pair of those phases by itself
    pair = register_volumes(
        breath.phases[1],
        breath.phases[2],
        fixed_mask=breath.labels[1],
        moving_mask=breath.labels[2],
        config=CONFIG,
    )
    alone = errors_mm(pair.map_points(truth[1]), truth[2]).mean()
    assert after[2].mean() < 1.2 * alone + 0.05


def test_the_amplitude_is_that_of_the_motion(breath, registered):
    amplitude, late = registered.motion()
    truth = breath.trajectories
    largest = np.max([errors_mm(a, b) for a in truth for b in truth], axis=0)
    voxels = np.rint(amplitude.voxel_from_world(truth[1])).astype(int)
    found = amplitude.data[tuple(voxels.T)]
    assert np.abs(found - largest).mean() < 1.0
    assert np.corrcoef(found, largest)[0, 1] > 0.95
    outside = registered.lungs.data == 0
    assert not amplitude.data[outside].any() and not late.data[outside].any()
    assert np.abs(late.data).max() <= 0.5


def test_the_mean_of_all_phases_has_less_noise_than_one(breath, registered):
    mean = registered.mean_image()
    soft = (breath.phases[1].data > -100) & (breath.phases[1].data < 200)
    soft = scipy.ndimage.binary_erosion(soft, iterations=3)
    lungs = breath.labels[1].data > 0
    assert mean.grid.matches(breath.phases[1].grid)
    assert np.corrcoef(mean.data[lungs], breath.phases[1].data[lungs])[0, 1] > 0.9
    rough = [np.abs(np.diff(v.data, axis=0))[soft[1:]].mean() for v in (mean, breath.phases[1])]
    assert rough[0] < 0.8 * rough[1]


def test_at_the_mean_position_nothing_moves_on_average(breath):
    series = register_series(breath.phases, masks=breath.labels, reference="mean", config=CONFIG)
    assert series.reference is None and series.moving == list(range(PHASES))
    lungs = series.pairs[0].fixed_lungs > 0
    left_mm = series.displacements.mean(axis=0)[lungs] * np.array(series.pairs[0].spacing_mm)
    assert np.abs(left_mm).max() < 0.05
    # from phase 0 to the mean position and on to phase 2, as the points went
    first, _ = series.field(0)
    third, _ = series.field(2)
    inside = breath.trajectories[0]
    mean = inside.copy()
    for _ in range(40):  # the position x with first(x) = inside
        mean += inside - first.transform_points(mean)
    assert errors_mm(third.transform_points(mean), breath.trajectories[2]).mean() < 1.5


def test_displacements_are_smoothed_over_time(breath, registered):
    # of a cycle of four phases there are no third differences to smooth: `registered` is not
    config = override(override(CONFIG, "series.cyclic=false"), "series.smoothness=2")
    smooth = register_series(breath.phases, masks=breath.labels, reference=1, config=config)
    matrix = smoothing_matrix(PHASES, 1, weight=2.0, cyclic=False)
    expected = np.tensordot(matrix, registered.displacements, axes=1)
    np.testing.assert_allclose(smooth.displacements, expected, atol=1e-4)
    assert np.abs(expected - registered.displacements).max() > 0.01
    assert not smooth.motion()[1].data.any()  # no cycle, no delay


def test_the_files_of_a_series(breath, registered, saved):
    names = {path.name for path in saved.iterdir()}
    assert names == {*SERIES_SET, "phase_00", "phase_02", "phase_03"}
    summary = json.loads((saved / "summary.json").read_text(encoding="utf-8"))
    assert summary["reference"] == "01" and summary["warnings"] == []
    assert [row["name"] for row in summary["phases"]] == ["00", "01", "02", "03"]
    volumes = [row["lungs_ml"] for row in summary["phases"]]
    assert np.argmax(volumes) == 0 and np.argmin(volumes) == 2
    for row in summary["phases"]:
        if "folder" in row:
            assert row["correlation_after"] > row["correlation_before"]
            assert row["folds_in_lungs"] == 0.0
    field = read_displacement(saved / "phase_02" / "displacement.nii.gz")
    points = breath.trajectories[1]
    expected = registered.trajectories(points)[2]
    np.testing.assert_allclose(field.transform_points(points), expected, atol=1e-3)
    one = json.loads((saved / "phase_02" / "summary.json").read_text(encoding="utf-8"))
    assert one["phase"] == "02" and one["certificate"]["uncertified"] == 0
    mean = read_volume(saved / "mean.nii.gz")
    np.testing.assert_allclose(mean.data, registered.mean_image().data, atol=0.1)


def test_trajectories_are_a_table(breath, registered, saved):
    lines = (saved / "trajectories.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# space: RAS"
    rows = list(csv.DictReader(lines[1:]))
    assert [row["phase"] for row in rows[:4]] == ["00", "01", "02", "03"]
    assert {row["label"] for row in rows} == set("abcdefg")
    found = np.array([[float(row[axis]) for axis in "xyz"] for row in rows]).reshape(7, 4, 3)
    expected = registered.trajectories(breath.trajectories[1][:7])
    np.testing.assert_allclose(found.swapaxes(0, 1), expected, atol=2e-3)


def test_the_page_needs_nothing_else(saved):
    page = (saved / "series.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") >= PHASES * 6
    assert "http" not in page.replace("http-equiv", "")
    assert "Series of 4 phases" in page and "phase 01" in page


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"reference": 4}, "reference: expected 0 to 3 or mean, got 4"),
        ({"masks": []}, "masks: expected 4, one a phase, got 0"),
        ({"names": ["a"]}, "names: expected 4, one a phase, got 1"),
    ],
)
def test_what_does_not_fit_is_refused(breath, arguments, text):
    with pytest.raises(ValueError, match=text):
        register_series(breath.phases, config=CONFIG, **arguments)


def test_one_image_is_no_series(breath):
    with pytest.raises(ValueError, match="phases: expected at least two images, got 1"):
        register_series(breath.phases[:1])


# Files


def ramps(count):
    grid = Grid((5, 6, 7), np.diag([1.0, 2.0, 3.0, 1.0]))
    return [Volume(np.full(grid.shape, 10 * n, np.int16), grid.affine) for n in range(count)]


def test_a_4d_file_is_a_series(tmp_path):
    import nibabel

    data = np.stack([volume.data for volume in ramps(3)], axis=-1)
    path = tmp_path / "breath.nii.gz"
    nibabel.Nifti1Image(data, ramps(1)[0].affine).to_filename(path)
    phases, names = read_series([path])
    assert names == ["00", "01", "02"]
    assert [phase.data[0, 0, 0] for phase in phases] == [0, 10, 20]
    assert phases[0].data.dtype == np.float32 and phases[1].spacing_mm == (1, 2, 3)


def test_a_3d_file_alone_is_refused(tmp_path):
    write_volume(tmp_path / "one.nii.gz", ramps(1)[0])
    with pytest.raises(ValueError, match=r"one.nii.gz: expected a 4-D file of two or more images"):
        read_series([tmp_path / "one.nii.gz"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("T00.nii.gz", "T10.nii.gz"), ["T00", "T10"]),
        (("T00/ct.nii.gz", "T10/ct.nii.gz"), ["T00", "T10"]),
        (("a/T/ct.nii.gz", "b/T/ct.nii.gz"), ["00", "01"]),
    ],
)
def test_phases_are_named_by_what_differs(tmp_path, names, expected):
    for name, volume in zip(names, ramps(2), strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_volume(tmp_path / name, volume)
    assert read_series([tmp_path / name for name in names])[1] == expected


# The command


def jaxreg(*words):
    from jaxreg.cli.app import main

    return main(arguments=["series", *map(str, words)])


@pytest.fixture(scope="module")
def files(breath, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for index, (phase, labels) in enumerate(zip(breath.phases, breath.labels, strict=True)):
        write_volume(folder / f"T{index}0.nii.gz", phase)
        write_volume(folder / f"lobes{index}.nii.gz", labels)
    lines = ["# space: RAS", "x,y,z", *(",".join(map(str, p)) for p in breath.trajectories[0][:2])]
    (folder / "points.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_the_command_registers_a_series(files, tmp_path, capsys):
    masks = [
        word for index in range(PHASES) for word in ("--masks", files / f"lobes{index}.nii.gz")
    ]
    words = ["--out", tmp_path, *masks, "--points", files / "points.csv", "--no-cycle"]
    words += ["--set", f"grid.shape={list(GRID)}", "--strict"]
    assert jaxreg(*sorted(files.glob("T*.nii.gz")), *words) == 0
    printed = capsys.readouterr()
    assert "phase T00: lungs" in printed.out and "the reference" in printed.out
    assert "phase T20" in printed.out and printed.err == ""
    names = {path.name for path in tmp_path.iterdir()}
    assert "delay.nii.gz" not in names and {"trajectories.csv", "series.html"} <= names
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["config"]["series"]["cyclic"] is False


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--reference", "mean", "--points", "points.csv"], "--points: expected points of a phase"),
        (["--masks", "lobes0.nii.gz"], "--masks: expected 4, one a phase, got 1"),
        (["--reference", "9"], "reference: expected 0 to 3 or mean, got 9"),
    ],
)
def test_the_command_says_what_is_wrong(files, tmp_path, capsys, words, text):
    words = [files / word if word.endswith((".csv", ".gz")) else word for word in words]
    assert jaxreg(*sorted(files.glob("T*.nii.gz")), "--out", tmp_path, *words) == 1
    assert text in capsys.readouterr().err
