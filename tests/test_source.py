"""Which scans were registered: names and dates in the summary, and nothing of the patient."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dicom_data import write_series

from jaxreg.cli.files import PairFiles, register_files
from jaxreg.config import RegistrationConfig
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.images import read_image, read_image_of
from jaxreg.io.nifti import write_volume
from jaxreg.io.source import Source, described, name_of, told_apart
from jaxreg.pipeline.result import Registration

EVEN = np.array([(-12.0, 30.0, -90.0 + 2.5 * k) for k in range(5)])
DATED = {"StudyDate": "20260110", "SeriesDescription": "CT \r\nthin", "PatientName": "Doe^Jane"}


def test_the_source_of_a_series_is_its_folder_date_and_description(tmp_path):
    folder = write_series(tmp_path / "visit_2026", EVEN, **DATED)
    image, source = read_image_of(folder)
    assert source == Source("visit_2026", "2026-01-10", "3", "CT thin")
    np.testing.assert_array_equal(image.data, read_image(folder).data)
    file = next(folder.iterdir())
    assert read_image_of(file)[1].name == file.name


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize("date", ["", "2026", "20261341", "10.01.2026"])
def test_a_date_that_is_none_is_left_out(tmp_path, date):
    folder = write_series(tmp_path / "scan", EVEN, StudyDate=date)
    assert read_image_of(folder)[1].study_date is None


def test_a_file_has_its_name_alone(tmp_path):
    path = tmp_path / "a.nii.gz"
    write_volume(path, Volume(np.zeros((3, 4, 5), np.float32), np.eye(4)))
    assert read_image_of(path)[1].told() == {"name": "a.nii.gz"}


def test_names_are_without_folders_and_can_be_written():
    assert name_of("/scans/jane/ct") == "ct"
    assert name_of("/scans/jane/ct", folders=1) == "jane/ct"
    assert name_of("/tmp/a\udcff") == "a?"
    assert name_of("..") == Path.cwd().parent.name


def test_equal_names_are_told_apart_by_date_or_folder():
    paths = [Path("/x/2025/a/ct"), Path("/x/2026/a/ct")]
    dated = [Source("ct", "2025-01-01"), Source("ct", "2026-01-01")]
    assert told_apart(dated, paths) == dated
    found = told_apart([Source("ct"), Source("ct")], paths)
    assert [source.name for source in found] == ["2025/a/ct", "2026/a/ct"]
    one = [Source("ct", None, "3", "lung"), Source("ct", None, "5")]
    assert told_apart(one, [paths[0], paths[0]]) == one
    words = described({"fixed": one[0].told(), "moving": one[1].told()})
    assert words == {"fixed": "ct (series 3 lung)", "moving": "ct (series 5)"}
    assert described({}) == {}


def test_a_registration_of_files_says_which_they_are(tmp_path, monkeypatch):
    def registered(*images, **options):
        return SimpleNamespace(summary={})

    monkeypatch.setattr("jaxreg.pipeline.registration.register_volumes", registered)
    folder = write_series(tmp_path / "before", EVEN, **DATED)
    write_volume(tmp_path / "today.nii.gz", read_image(folder))
    result, _ = register_files(
        PairFiles(tmp_path / "today.nii.gz", folder), settings=RegistrationConfig()
    )
    moving = {"name": "before", "study_date": "2026-01-10", "series_number": "3"}
    moving |= {"series_description": "CT thin"}
    assert result.summary == {"images": {"fixed": {"name": "today.nii.gz"}, "moving": moving}}


def test_the_lines_of_a_registration_begin_with_its_scans():
    grid = np.diag([2.0, 2.0, 2.5, 1.0])
    image = Volume(np.zeros((3, 4, 5), np.float32), grid)
    moving = {"name": "visit_2025", "study_date": "2025-01-10"}
    summary = {"images": {"fixed": {"name": "a.nii.gz"}, "moving": moving}, "seconds": {"a": 1.25}}
    summary |= {"correlation_before": 0.5, "correlation_after": 0.9, "folds_in_lungs": 0.0}
    summary["certificate"] = {"uncertified": 0}
    field = DisplacementField(np.zeros((3, 4, 5, 3), np.float32), grid)
    result = Registration(image, image, field, image, np.eye(4), summary)
    assert result.lines() == (
        "fixed: a.nii.gz, voxels of 2 x 2 x 2.5 mm",
        "moving: visit_2025 (study of 2025-01-10), voxels of 2 x 2 x 2.5 mm",
        "correlation in the lungs 0.500 before, 0.900 after",
        "no folds in the field, proved between the voxels too",
        "computed in 1.2 s",
    )
    del summary["images"]
    summary["certificate"], summary["folds_in_lungs"] = {"uncertified": 1234}, 0.00125
    assert result.lines()[0] == "fixed: voxels of 2 x 2 x 2.5 mm"
    assert result.lines()[3] == (
        "folded lung voxels: 0.1250 %; 1,234 cells between voxels are not proved free of folds"
    )
