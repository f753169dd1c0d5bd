"""4DCTs as scanners write them: the phases in the order of time, each voxel in its phase."""

import numpy as np
import pydicom
import pytest
from dicom_data import SHAPE, stored_values, write_series
from pydicom.dataset import Dataset

from jaxreg.io.series import read_series

POSITIONS = [(10.0, 20.0, 2.5 * k) for k in range(SHAPE[2])]


def phase_values(number):
    return stored_values(100 + number)


def write_phases(folder, attributes, *, one_series=False):
    """A phase for each item of `attributes`, whose files have these; in the order given."""
    for number, named in enumerate(attributes):
        write_series(
            folder,
            POSITIONS,
            stored=phase_values(number),
            series="1.2.9" if one_series else f"1.2.9.{number}",
            first=1 + (SHAPE[2] * number if one_series else 0),
            **named,
        )
    return folder


def order_of(phases):
    """Which number of `phase_values` each phase has."""
    found = []
    for phase in phases:
        same = [n for n in range(12) if np.array_equal(phase.data, phase_values(n) - 1024.0)]
        found.append(same[0])
    return found


def nominal(value):
    item = Dataset()
    item.NominalPercentageOfRespiratoryPhase = value
    return {"RespiratorySynchronizationSequence": [item]}


@pytest.mark.parametrize("one_series", [False, True])
@pytest.mark.parametrize(
    ("attributes", "order", "names"),
    [
        (
            [{"SeriesDescription": f"Thorax T={p}%"} for p in (50, 0, 10)],
            [1, 2, 0],
            ["0%", "10%", "50%"],
        ),
        (
            [{"ImageComments": f"Gated, {p}.0%"} for p in (80, 20)],
            [1, 0],
            ["20.0%", "80.0%"],
        ),
        (
            [{"SeriesDescription": t} for t in ("50% Ex", "100% In", "0% In", "50% In")],
            [2, 3, 1, 0],
            ["0% In", "50% In", "100% In", "50% Ex"],
        ),
        ([nominal(p) for p in (30.0, 10.0)], [1, 0], ["10%", "30%"]),
        ([{"TemporalPositionIdentifier": n} for n in (10, 9)], [1, 0], ["9", "10"]),
        ([{"TemporalPositionIndex": n} for n in (2, 1)], [1, 0], ["1", "2"]),
    ],
)
def test_phases_are_sorted_by_what_headers_say(tmp_path, attributes, order, names, one_series):
    phases, found = read_series([write_phases(tmp_path, attributes, one_series=one_series)])
    assert found == names and order_of(phases) == order
    assert phases[0].spacing_mm == pytest.approx((0.9, 1.1, 2.5))


def test_averages_are_left_out_with_a_warning(tmp_path):
    texts = ("CT 0%", "CT 50%", "CT AVG 0%-90%", "MIP 50%", "Topogram")
    folder = write_phases(tmp_path, [{"SeriesDescription": text} for text in texts])
    with pytest.warns(UserWarning, match="3 series of the folder are no phases"):
        phases, names = read_series([folder])
    assert names == ["0%", "50%"] and order_of(phases) == [0, 1]


def test_folders_within_the_folder_are_read(tmp_path):
    for number, name in enumerate(("b", "a")):
        write_series(
            *(tmp_path / name, POSITIONS),
            stored=phase_values(number),
            series=f"1.2.9.{number}",
            SeriesDescription=f"T={10 * number}%",
        )
    assert read_series([tmp_path])[1] == ["0%", "10%"]


def test_phases_that_no_header_tells_are_refused(tmp_path):
    folder = write_phases(tmp_path, [{"SeriesDescription": text} for text in ("early", "late")])
    with pytest.raises(ValueError, match=r"got 2 series \('early', 'late'\). Give the folder of"):
        read_series([folder])


def test_a_phase_twice_is_refused(tmp_path):
    folder = write_phases(tmp_path, [{"SeriesDescription": f"T={p}%"} for p in (0, 10, 10)])
    with pytest.raises(ValueError, match="expected one series of each phase, got 2 of phase 10%"):
        read_series([folder])


def test_a_folder_without_dicom_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got no DICOM images"):
        read_series([tmp_path])


def test_a_phase_without_a_geometry_is_refused(tmp_path):
    folder = write_phases(tmp_path, [{"SeriesDescription": f"T={p}%"} for p in (0, 50)])
    for path in sorted(folder.iterdir())[: SHAPE[2]]:
        dataset = pydicom.dcmread(path)
        del dataset.ImagePositionPatient
        dataset.save_as(path)
    with pytest.raises(ValueError, match="expected a 3-D scan, got 0 slice of 0 rows and 0 colu"):
        read_series([folder])


@pytest.mark.parametrize("value", ["x", "1\\2", "", "nan"])
def test_a_position_in_time_that_is_no_number_tells_no_phase(tmp_path, value):
    folder = write_phases(tmp_path, [{"TemporalPositionIndex": p} for p in (1, 2)])
    for path in sorted(folder.iterdir())[: SHAPE[2]]:
        dataset = pydicom.dcmread(path)
        dataset.add_new("TemporalPositionIndex", "DS", "1")
        dataset["TemporalPositionIndex"]._value = value
        dataset.save_as(path)
    with pytest.raises(ValueError, match="expected a (4DCT with phases told|complete DICOM file)"):
        read_series([folder])
