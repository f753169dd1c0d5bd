"""Landmark files."""

import csv
import json

import numpy as np
import pytest

from jaxreg.io.notes import FileWarning
from jaxreg.io.points import Landmarks, read_landmarks, write_landmarks, write_trajectories

HEADER = "kind,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z"


def write(tmp_path, *lines):
    path = tmp_path / "landmarks.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("space", "sign"), [("RAS", 1), ("LPS", -1), ("lps", -1)])
def test_reads_ras_and_lps_by_the_comment(tmp_path, space, sign):
    path = write(
        tmp_path, f"# space: {space}", HEADER, "vessel,1,2,3,4,5.5,6", "random,7,8,9,1,2,3"
    )
    landmarks = read_landmarks(path)
    np.testing.assert_array_equal(landmarks.fixed, [[sign, 2 * sign, 3], [7 * sign, 8 * sign, 9]])
    np.testing.assert_array_equal(landmarks.moving[0], [4 * sign, 5.5 * sign, 6])
    assert landmarks.kind.tolist() == ["vessel", "random"]


def test_the_argument_says_it_for_a_file_that_does_not(tmp_path):
    path = write(tmp_path, HEADER, "vessel,1,2,3,4,5,6")
    np.testing.assert_array_equal(read_landmarks(path, space="LPS").fixed, [[-1, -2, 3]])


def test_columns_in_any_order_without_kind(tmp_path):
    header = "moving_x,moving_y,moving_z,Fixed_Z, fixed_y ,fixed_x"
    path = write(tmp_path, "# made by hand", "# space: RAS", header, "", "1,2,3,4,5,6")
    landmarks = read_landmarks(path)
    np.testing.assert_array_equal(landmarks.fixed, [[6, 5, 4]])
    np.testing.assert_array_equal(landmarks.moving, [[1, 2, 3]])
    assert landmarks.kind.tolist() == [""]


@pytest.mark.parametrize(
    ("lines", "space", "text"),
    [
        (
            [HEADER, "v,1,2,3,4,5,6"],
            None,
            "expected RAS or LPS to be stated once, got no statement",
        ),
        (["# space: RAS", HEADER], "LPS", "to be stated once, got LPS and RAS"),
        (["# space: RSA", HEADER], None, "space: expected RAS or LPS, got 'rsa'"),
        ([HEADER], "XYZ", "^space: expected RAS or LPS, got 'XYZ'"),
        (["a,b,c", "1,2,3"], "RAS", "expected the columns fixed_x,.*got 'a,b,c'. Name"),
        ([HEADER + ",fixed_x"], "RAS", "expected the columns"),
        ([], "RAS", "expected the columns"),
        ([HEADER], "RAS", "expected landmarks, got none"),
        (
            [HEADER, "v,1,2,3,4,5,6", "v,1,2,3,4,5"],
            "RAS",
            "expected 7 values .* in line 3. Correct",
        ),
        ([HEADER, "", "v,1,2,3,4,5,six"], "RAS", "got 'v,1,2,3,4,5,six' in line 3"),
        ([HEADER, "v,1,2,3,4,5,nan"], "RAS", "expected finite coordinates, got NaN"),
    ],
)
def test_refuses_with_the_place(tmp_path, lines, space, text):
    path = write(tmp_path, *lines)
    with pytest.raises(ValueError, match=text) as info:
        read_landmarks(path, space=space)
    assert "\n" not in str(info.value)


def test_refuses_missing_and_binary_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="x.csv: expected a CSV file, got no such file"):
        read_landmarks(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_bytes(b"\x1f\x8b\xff\x00")
    with pytest.raises(ValueError, match="y.csv: expected CSV text, got binary data"):
        read_landmarks(tmp_path / "y.csv")


@pytest.mark.parametrize("space", ["RAS", "LPS"])
def test_write_and_read_back(tmp_path, space):
    rng = np.random.default_rng(0)
    fixed, moving = rng.uniform(-300, 300, (2, 9, 3)).round(3)
    landmarks = Landmarks(fixed, moving, np.array(["keypoint"] * 9))
    write_landmarks(tmp_path / "a.csv", landmarks, space=space)
    assert (
        (tmp_path / "a.csv")
        .read_text(encoding="utf-8")
        .startswith(f"# space: {space}\n{HEADER}\nkeypoint,")
    )
    read = read_landmarks(tmp_path / "a.csv")
    np.testing.assert_allclose(read.fixed, fixed, atol=1e-9)
    np.testing.assert_allclose(read.moving, moving, atol=1e-9)
    assert read.kind.tolist() == ["keypoint"] * 9


@pytest.mark.filterwarnings("error")
def test_kinds_that_begin_as_a_comment_survive(tmp_path):
    kinds = ["#1", "# space: LPS", "a#b", '#"x", y', ""]
    points = np.arange(15.0).reshape(5, 3)
    write_landmarks(tmp_path / "a.csv", Landmarks(points, points + 1, np.array(kinds)))
    read = read_landmarks(tmp_path / "a.csv")
    assert read.kind.tolist() == kinds
    np.testing.assert_array_equal(read.fixed, points)
    np.testing.assert_array_equal(read.moving, points + 1)


def test_a_comment_begins_with_the_first_character_of_a_line(tmp_path):
    lines = ["# space: RAS", HEADER, "#1,1,2,3,4,5,6", " #2,1,2,3,4,5,6", "# seven,1,2,3,4,5,x"]
    with pytest.warns(FileWarning, match="1 lines that begin with # .* such as '#1,1,2") as told:
        read = read_landmarks(write(tmp_path, *lines))
    assert [warning.message.code for warning in told] == ["points-in-comments"]
    assert read.kind.tolist() == ["#2"]


def test_labels_of_trajectories_begin_as_they_like(tmp_path):
    write_trajectories(tmp_path / "a.csv", ["0", "1"], [np.zeros((1, 3))] * 2, labels=["#1"])
    lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert [row[0] for row in csv.reader(x for x in lines if x[0] != "#")] == ["label", "#1", "#1"]


def test_writing_is_refused_with_the_reason(tmp_path):
    landmarks = Landmarks(np.zeros((1, 3)), np.zeros((1, 3)), np.array([""]))
    with pytest.raises(ValueError, match="space: expected RAS or LPS, got 'ITK'"):
        write_landmarks(tmp_path / "a.csv", landmarks, space="ITK")
    with pytest.raises(OSError, match="missing: expected a folder that can be written"):
        write_landmarks(tmp_path / "missing" / "a.csv", landmarks)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fixed", "moving", "kind", "text"),
    [
        ((4, 3), (5, 3), 4, r"expected the same points twice, \(N, 3\), got shapes \(4, 3\) and"),
        ((4, 2), (4, 2), 4, r"got shapes \(4, 2\) and \(4, 2\)"),
        ((4, 3), (4, 3), 3, r"kind: expected one entry for each of 4 points, got shape \(3,\)"),
    ],
)
def test_landmarks_are_checked(fixed, moving, kind, text):
    with pytest.raises(ValueError, match=text):
        Landmarks(np.zeros(fixed), np.zeros(moving), np.array(["v"] * kind))


@pytest.mark.parametrize("name", ["a0001_m3", "a0001_m4", "cip64_m2", "cip64_m5"])
def test_initial_tre_of_the_development_pairs(shared, name):
    folder = shared / "data" / name
    landmarks = read_landmarks(folder / "landmarks.csv", space="LPS")
    stated = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["landmarks"]
    distance_mm = np.linalg.norm(landmarks.moving - landmarks.fixed, axis=1)
    for kind, figures in stated.items():
        chosen = distance_mm[landmarks.kind == kind]
        assert len(chosen) == figures["n"]
        assert chosen.mean() == pytest.approx(figures["initial_tre_mean"], abs=0.0051)
        assert chosen.std() == pytest.approx(figures["initial_tre_std"], abs=0.0051)


@pytest.mark.parametrize("row", ["x" * 200000 + ",1,2,3,4,5,6", "a\0b,1,2,3,4,5,6", "v,1,2,3,4,5"])
def test_a_field_of_absurd_length_is_refused_in_a_short_line(tmp_path, row):
    path = tmp_path / "p.csv"
    header = "kind,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z"
    path.write_text(f"# space: RAS\n{header}\n{row}\n", encoding="utf-8")
    if "\0" in row:
        assert read_landmarks(path).kind[0] == "a\0b"
        return
    with pytest.raises(ValueError, match="p.csv: expected") as info:
        read_landmarks(path)
    assert len(str(info.value)) < 400
