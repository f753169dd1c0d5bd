"""`jaxreg evaluate --dirlab --phases`: 75 points through six phases, on a generated patient."""

import dataclasses

import numpy as np
import pytest
from evaluation_data import rows_of

from jaxreg.benchmark import methods, run
from jaxreg.benchmark.phases import SETTINGS, dirlab_phases_data
from jaxreg.config import LungGridConfig
from jaxreg.datasets import dirlab
from jaxreg.datasets.dirlab_reference import DATASETS
from jaxreg.ops.temporal import smoothing_matrix
from jaxreg.phantom.series import phantom_series

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = dataclasses.replace(SETTINGS, grid=LungGridConfig(shape=(48, 40, 48)))
NAMES = ["3-T10", "3-T20", "3-T30", "3-T40", "3-T50"]


@pytest.fixture(scope="module")
def breath():
    """Half a cycle, from inhale to exhale, in twelve phases of which six are written."""
    return phantom_series(5, phases=12, shape=(52, 44, 48), motion=25.0)


@pytest.fixture
def patient(breath, tmp_path, monkeypatch):
    """That breath as case 3 of the distribution; the folder and the 75 points in voxels."""
    grid = breath.phases[0].grid
    table = DATASETS["4dct"].cases
    changed = dataclasses.replace(table[3], shape=grid.shape, spacing_mm=tuple(grid.spacing_mm))
    monkeypatch.setitem(table, 3, changed)
    folder, last = tmp_path / "Case3Pack", np.array(grid.shape) - 1
    (folder / "Images").mkdir(parents=True)
    (folder / "Sampled4D").mkdir()
    voxels = []
    for phase, (name, image) in enumerate(zip(dirlab.PHASES, breath.phases, strict=False)):
        raw = np.rint(image.data[::-1, ::-1, ::-1] + 1024.0).astype("<i2")
        (folder / "Images" / f"case3_{name}-ssm.img").write_bytes(raw.T.tobytes())
        points = grid.voxel_from_world(breath.trajectories[phase][:75])
        voxels.append(last - points)  # x to the left, y to posterior, z to the feet
        path = folder / "Sampled4D" / f"case3_4D-75_{name}.txt"
        np.savetxt(path, voxels[-1] + 1, fmt="%.4f")  # whole voxels in the distribution
    return tmp_path, np.array(voxels)


def test_the_points_are_scored_in_every_phase(evaluate, patient, breath, tmp_path, capsys):
    folder, voxels = patient
    out = tmp_path / "out"
    arguments = ["--dirlab", folder, "--phases", "--method", "initial", "--out", out]
    assert evaluate(arguments) == 0
    rows = rows_of(out / "dirlab-phases" / "cases-initial.json")
    spacing = np.array(breath.phases[0].grid.spacing_mm)
    by_case = {row["case"]: row["TRE mm"] for row in rows}
    for phase, name in enumerate(NAMES, 1):
        moved = np.linalg.norm((voxels[phase] - voxels[0]) * spacing, axis=1).mean()
        assert by_case[name] == pytest.approx(moved, abs=1e-3)
    assert by_case["3-T50"] > 2 * by_case["3-T10"] > 0


def test_the_series_follows_the_points_and_is_registered_once(patient, tmp_path, monkeypatch):
    folder, _ = patient
    reads = []
    read = dirlab.read_phases
    monkeypatch.setattr(dirlab, "read_phases", lambda *a: reads.append(a) or read(*a))
    data = dirlab_phases_data(folder)
    assert [case.name for case in data.cases] == NAMES
    chosen = [methods.INITIAL, methods.series("series", config=CONFIG)]
    for case in data.cases[3:]:
        before, after = run.evaluate(data, case, chosen, tmp_path / "out")
        assert not after.error, after.error
        assert np.mean(after.tre_mm) < 0.2 * np.mean(before.tre_mm)
        assert after.fixed_phase == "T00 (inhale)"
    assert len(reads) == 1


def test_smoothing_over_half_a_cycle_leaves_exhale_where_it_is():
    motion = (1.0 - np.cos(np.pi * np.arange(6) / 5.0)) / 2.0  # inhale to exhale
    series = SETTINGS.series
    matrix = smoothing_matrix(6, 0, weight=series.smoothness, cyclic=series.cyclic)
    assert np.abs(matrix @ motion - motion).max() < 0.005


def test_what_cannot_be_asked_is_said(evaluate, patient, tmp_path, capsys):
    folder, _ = patient
    assert evaluate(["--phases", "--method", "initial"]) == 1
    assert "--phases: expected --dirlab with it, got none" in capsys.readouterr().err
    assert evaluate(["--dirlab", folder, "--method", "series"]) == 1
    assert "--method series: expected --dirlab and --phases" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert evaluate(["--dirlab", tmp_path / "empty", "--phases"]) == 1
    assert "Sampled4D/case1_4D-75_T00.txt" in capsys.readouterr().err
