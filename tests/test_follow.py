"""Lesions followed from scan to scan: statuses, volumes and doubling times, files, the command."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage

from jaxreg.cli.app import main
from jaxreg.geometry.volume import Volume
from jaxreg.io.images import read_labels
from jaxreg.io.lesions import MarkedLesion, lesions_of_labels
from jaxreg.io.nifti import write_displacement, write_volume
from jaxreg.metrics.lesions import Outline
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.follow import _status
from jaxreg.pipeline.follow_match import Match, Scan, look_for, unlike_mark
from jaxreg.pipeline.follow_result import FOLLOW_SET, Followed, FollowUp, described, measures_of

pytestmark = pytest.mark.usefixtures("quick_compilation")
DAYS = 80.0
SMALL = ("--set", "grid.shape=[64, 56, 64]", "--quiet")


def run(*arguments):
    return main(arguments=[str(a) for a in arguments])


@pytest.fixture(scope="module")
def pair():
    options = {"motion": 6.0, "moving_shift_mm": (4.0, -7.0, 9.0)}
    return phantom_pair(31, shape=(128, 104, 116), nodules=5, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pair):
    path = tmp_path_factory.mktemp("follow")
    for scan in ("fixed", "moving"):
        write_volume(path / f"{scan}.nii.gz", getattr(pair, scan))
        write_volume(path / f"{scan}_lobes.nii.gz", getattr(pair, f"{scan}_labels"))
        shown = [n for n in pair.nodules if getattr(n, f"{scan}_ml")]
        places = [getattr(n, f"{scan}_mm") * (-1, -1, 1) + (1.0, -1.0, 0.5) for n in shown]
        names = [n.kind for n in shown]
        if scan == "fixed":
            names, places = [*names, "nothing"], [*places, empty_place(pair) * (-1, -1, 1)]
        lines = [f"{name},{x},{y},{z}" for name, (x, y, z) in zip(names, places, strict=True)]
        text = "# space: LPS\nlabel,x,y,z\n" + "\n".join(lines) + "\n"
        (path / f"{scan}.csv").write_text(text, encoding="utf-8")
    write_displacement(path / "field.nii.gz", pair.displacement)
    return path


def empty_place(pair):
    """The voxel of the fixed lungs that is farthest from what is dense."""
    aerated = (pair.fixed_labels.data > 0) & (pair.fixed.data < -600)
    depth = ndimage.distance_transform_edt(aerated, sampling=pair.fixed.spacing_mm)
    return pair.fixed.world_from_voxel(np.array(np.unravel_index(depth.argmax(), depth.shape)))


@pytest.fixture(scope="module")
def words(folder):
    images = (folder / "fixed.nii.gz", folder / "moving.nii.gz")
    masks = [w for n in ("fixed", "moving") for w in (f"--{n}-mask", folder / f"{n}_lobes.nii.gz")]
    given = ("--lesions", folder / "fixed.csv", "--field", folder / "field.nii.gz")
    return (*images, *masks, *given, *SMALL)


@pytest.fixture(scope="module")
def out(folder, words):
    more = ("--moving-lesions", folder / "moving.csv", "--days", DAYS)
    assert run("follow", *words, *more, "--out", folder / "out") == 0
    return folder / "out"


def rows_of(folder):
    document = json.loads((folder / "follow.json").read_text(encoding="utf-8"))
    return {row["lesion"]: row for row in document["lesions"]}


def test_statuses_and_places_are_true(pair, out):
    assert {path.name for path in out.iterdir()} == set(FOLLOW_SET)
    rows = rows_of(out)
    assert len(rows) == len(pair.nodules) + 1
    for nodule in pair.nodules:
        row = rows[nodule.kind]
        single = nodule.kind in ("new", "vanished")
        assert row["status"] == (nodule.kind if single else "matched") and not row["remark"]
        marked_in = {"new": "fixed", "vanished": "moving"}.get(nodule.kind, "both")
        assert row["marked_in"] == marked_in
        for scan in ("fixed", "moving"):
            place = [row[f"{scan}_{axis}"] for axis in "xyz"]
            assert np.linalg.norm(place - getattr(nodule, f"{scan}_mm")) < 1.5


def test_volumes_and_doubling_times_are_true(pair, out):
    rows = rows_of(out)
    for nodule in pair.nodules:
        row = rows[nodule.kind]
        for scan in ("fixed", "moving"):
            true = getattr(nodule, f"{scan}_ml")
            assert row[f"{scan}_ml"] == (pytest.approx(true, rel=0.3) if true else None)
        if row["status"] == "matched":
            ratio = nodule.fixed_ml / nodule.moving_ml
            assert row["volume_ratio"] == pytest.approx(ratio, rel=0.2)
            assert row["change"] == nodule.kind
        if nodule.kind in ("grown", "shrunk"):
            expected = DAYS * np.log(2) / np.log(row["volume_ratio"])
            assert row["doubling_days"] == pytest.approx(expected)
            assert (row["doubling_days"] > 0) == (nodule.kind == "grown")
        else:
            assert row["doubling_days"] is None


def test_the_volume_change_of_the_lung_around_is_that_of_the_field(pair, out):
    field = pair.displacement
    for nodule in pair.nodules:
        h = 8.0
        ends = [field.transform_points(nodule.fixed_mm + sign * h * np.eye(3)) for sign in (1, -1)]
        true = np.linalg.det((ends[0] - ends[1]) / (2 * h))
        assert rows_of(out)[nodule.kind]["jacobian"] == pytest.approx(true, abs=0.04)


def test_label_maps_have_the_numbers_of_the_rows(pair, out):
    rows = list(rows_of(out).values())
    with open(out / "follow.csv", encoding="utf-8", newline="") as file:
        assert file.readline() == "# space: RAS\n"
        table = list(csv.DictReader(file))
    assert [row["lesion"] for row in table] == [row["lesion"] for row in rows]
    for scan in ("fixed", "moving"):
        labels = read_labels(out / f"lesions_{scan}.nii.gz")
        voxel_ml = np.prod(labels.spacing_mm) / 1e3
        for number, row in enumerate(rows, start=1):
            ml = np.count_nonzero(labels.data == number) * voxel_ml
            assert ml == pytest.approx(row[f"{scan}_ml"] or 0.0, rel=0.5)


def test_labels_no_partners_and_a_fixed_image_that_is_the_earlier_one(
    folder, words, pair, tmp_path, capsys
):
    write_volume(tmp_path / "labels.nii.gz", balls(pair, "fixed"))
    more = ("--lesions", tmp_path / "labels.nii.gz", "--days", -DAYS, "--json")
    assert run("follow", *words, *more, "--out", tmp_path / "o") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["days"] == -DAYS
    for row in printed["lesions"]:
        kind = pair.nodules[int(row["lesion"]) - 1].kind
        swapped = {"new": "vanished", "grown": "shrunk", "shrunk": "grown"}
        assert swapped.get(kind, kind) == (row["change"] or row["status"])
        assert row["marked_ml"] > 0 and row["marked_in"] == "fixed"
    doubling = {row["change"]: row["doubling_days"] for row in printed["lesions"]}
    assert doubling["grown"] > 0 > doubling["shrunk"]


def balls(pair, scan, wider=1.0):
    """Labels 1, 2, ... of the nodules in a scan, balls of a multiple of their diameters."""
    image = getattr(pair, scan)
    world = image.world_from_voxel(np.moveaxis(np.indices(image.shape), 0, -1))
    labels = np.zeros(image.shape, np.uint8)
    for number, nodule in enumerate(pair.nodules, start=1):
        radius = np.cbrt((getattr(nodule, f"{scan}_ml") or 0) * 1e3 * 3 / 4 / np.pi)
        apart = np.linalg.norm(world - getattr(nodule, f"{scan}_mm"), axis=-1)
        labels[apart < wider * radius] = number
    return Volume(labels, image.affine)


def test_an_outline_that_is_not_what_was_marked_tells_nothing(words, pair, tmp_path):
    write_volume(tmp_path / "labels.nii.gz", balls(pair, "fixed", wider=2.5))
    more = ("--lesions", tmp_path / "labels.nii.gz", "--out", tmp_path / "o")
    assert run("follow", *words, *more) == 0
    rows = rows_of(tmp_path / "o")
    assert len(rows) == sum(bool(nodule.fixed_ml) for nodule in pair.nodules)
    for number, row in rows.items():
        ml = pair.nodules[int(number) - 1].fixed_ml
        assert row["status"] == "uncertain" and row["fixed_ml"] is row["moving_ml"] is None
        assert row["marked_ml"] == pytest.approx(2.5**3 * ml, rel=0.2)
        text = f" ml) is not what was marked ({row['marked_ml']:.3g} ml)"
        assert row["remark"].startswith("the outline (") and row["remark"].endswith(text)
    assert not read_labels(tmp_path / "o" / "lesions_fixed.nii.gz").data.any()


def test_lesions_marked_in_the_moving_scan_alone_are_looked_for_in_the_fixed_one(
    words, folder, pair, tmp_path, capsys
):
    at = words.index("--lesions")
    more = (*words[:at], *words[at + 2 :], "--days", DAYS, "--out", tmp_path / "o")
    assert run("follow", *more, "--moving-lesions", folder / "moving.csv") == 0
    rows = rows_of(tmp_path / "o")
    assert set(rows) == {nodule.kind for nodule in pair.nodules if nodule.moving_ml}
    for nodule in pair.nodules:
        if nodule.moving_ml:
            row = rows[nodule.kind]
            gone = nodule.kind == "vanished"
            assert row["status"] == ("vanished" if gone else "matched") and not row["remark"]
            assert row["marked_in"] == "moving" and row["change"] == (None if gone else nodule.kind)
            place = [row[f"fixed_{axis}"] for axis in "xyz"]
            assert np.linalg.norm(place - nodule.fixed_mm) < 1.5
            if not gone:
                ratio = nodule.fixed_ml / nodule.moving_ml
                assert row["volume_ratio"] == pytest.approx(ratio, rel=0.2)
    capsys.readouterr()
    assert run("follow", *more) == 1
    text = "--lesions: expected lesions of FIXED, or those of MOVING by --moving-lesions, got none."
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("wider", [1.0, 2.5])
def test_one_lesion_of_both_label_maps_has_one_row(words, pair, tmp_path, wider):
    write_volume(tmp_path / "fixed.nii.gz", balls(pair, "fixed", wider=wider))
    labels = balls(pair, "moving", wider=wider)
    other = np.where(labels.data > 0, labels.data % len(pair.nodules) + 1, 0).astype(np.uint8)
    write_volume(tmp_path / "moving.nii.gz", Volume(other, labels.affine))
    given = ("--lesions", tmp_path / "fixed.nii.gz", "--out", tmp_path / "o")
    assert run("follow", *words, *given, "--moving-lesions", tmp_path / "moving.nii.gz") == 0
    rows = rows_of(tmp_path / "o")
    expected = {}
    for number, nodule in enumerate(pair.nodules, start=1):
        single = {"new": "fixed", "vanished": "moving"}.get(nodule.kind)
        name = str(number) if single != "moving" else f"{number % len(pair.nodules) + 1} (moving)"
        expected[name] = (single or "both", nodule)
    assert set(rows) == set(expected) and "2 (moving)" in rows
    for name, (marked_in, nodule) in expected.items():
        row = rows[name]
        assert row["marked_in"] == marked_in
        kind = nodule.kind if marked_in != "both" else "matched"
        assert row["status"] == ("uncertain" if wider > 2 else kind)
        for scan in ("fixed", "moving"):
            place = [row[f"{scan}_{axis}"] for axis in "xyz"]
            assert np.linalg.norm(place - getattr(nodule, f"{scan}_mm")) < 2.0


@pytest.mark.parametrize(
    ("diameter_mm", "shift_mm", "unlike"),
    [(10.0, 0.0, False), (15.2, 0.0, False), (16.5, 0.0, True), (6.5, 0.0, False)]
    + [(5.5, 0.0, True), (10.0, 2.5, False), (10.0, 5.0, True), (15.2, 5.0, False)],
)
def test_a_label_is_compared_by_volume_and_place(diameter_mm, shift_mm, unlike):
    ball = ball_of(10.0, 0.5, 0.0)
    volume = np.count_nonzero(ball.data) * 0.5**3 / 1e3
    found = dataclasses.replace(outline(volume), mask=ball)
    (lesion,) = lesions_of_labels(ball_of(diameter_mm, 1.0, shift_mm), "x").lesions
    assert bool(unlike_mark(found, lesion)) == unlike
    assert unlike_mark(found, MarkedLesion("point", np.zeros(3))) == ""


def ball_of(diameter_mm, step_mm, shift_mm):
    """A ball in a cube of voxels around the origin, shifted along x."""
    half = int(np.ceil(14.0 / step_mm))
    affine = np.diag([step_mm, step_mm, step_mm, 1.0])
    affine[:3, 3] = -half * step_mm
    count = 2 * half + 1
    world = step_mm * (np.moveaxis(np.indices((count,) * 3), 0, -1) - half)
    inside = np.linalg.norm(world - (shift_mm, 0, 0), axis=-1) <= diameter_mm / 2
    return Volume(inside.astype(np.uint8), affine)


def test_a_mark_without_a_lesion_is_told(out):
    row = rows_of(out)["nothing"]
    assert row["status"] == "uncertain" and row["fixed_ml"] is None
    assert row["remark"] == "nothing denser than lung was found at the mark"


def test_what_cannot_be_seen_is_uncertain_and_not_new():
    scan = Scan("moving", *(Volume(np.full((30, 30, 30), v), np.eye(4)) for v in (-850, 1)))
    lost = look_for(scan, outline(1.0), np.array([15.0, 15.0, 31.0]), 0.9)
    assert lost.doubt == "the moving scan ends before this place" and lost.outline is None
    poor = look_for(scan, outline(1.0), np.full(3, 15.0), 0.1)
    assert poor.doubt == "the registration is poor here (quality 0.10)"
    assert look_for(scan, outline(1.0), np.full(3, 15.0), 0.9).doubt == ""


@pytest.mark.parametrize("marked_in", ["fixed", "moving", "both"])
def test_an_uncertain_match_tells_neither_growth_nor_the_volume_found(marked_in, tmp_path):
    pair = outline(0.9), outline(0.06)
    measures = {"marked_in": marked_in, "apart_mm": 3.1, "quality": 0.9, "jacobian": 0.94}
    measures |= measures_of(pair, 90.0)
    assert measures["change"] == "grown" and measures["doubling_days"] > 0
    lesion = Followed("10", "uncertain", "it may be a vessel", np.full((2, 3), 4.0), pair, measures)
    row = lesion.row()
    withheld = "fixed" if marked_in == "moving" else "moving"
    empty = {"change", "volume_ratio", "doubling_days", "marked_ml"}
    empty |= {f"{withheld}_{of}" for of in ("ml", "diameter_mm", "hu")}
    assert {name for name, value in row.items() if value is None} == empty
    text = "\n".join(described(row))
    assert text.startswith("10: uncertain\n") and text.endswith("it may be a vessel")
    assert "doubles" not in text and f"{withheld}:" not in text
    image = Volume(np.full((9, 9, 9), -850.0, np.float32), np.eye(4))
    summary = {"days": 90.0, "warnings": []}
    found = FollowUp(image, image, image, [lesion], summary)
    maps = [found.label_map(scan).data.any() for scan in (0, 1)]
    assert maps == [withheld == "moving", withheld == "fixed"]
    found.save(tmp_path)
    written = json.loads((tmp_path / "follow.json").read_text(encoding="utf-8"))
    assert written["lesions"][0]["change"] is None
    with open(tmp_path / "follow.csv", encoding="utf-8") as file:
        (cells,) = csv.DictReader(file.readlines()[1:])
    assert {name for name, cell in cells.items() if not cell} == empty


def test_the_table_on_the_terminal_has_no_blanks(words, folder, tmp_path, capsys):
    nothing = tmp_path / "nothing.csv"
    lines = (folder / "fixed.csv").read_text(encoding="utf-8").splitlines()
    nothing.write_text("\n".join([*lines[:2], lines[-1]]), encoding="utf-8")
    assert run("follow", *words, "--lesions", nothing, "--out", tmp_path / "o") == 0
    row = capsys.readouterr().out.splitlines()[2]
    remark = "nothing denser than lung was found at the mark"
    assert row.split() == ["nothing", "uncertain", *"-----", *remark.split()]


def test_a_lesion_that_is_no_more_than_a_vessel_names_the_scan():
    vessel = dataclasses.replace(outline(1.0), compact=False)
    status, remark = _status(Match(np.zeros(3), None, None), vessel, "moving", "vanished")
    text = "in the moving scan it cannot be told from vessels or the chest wall"
    assert status == "uncertain" and remark.startswith(text)


def test_a_matched_lesion_tells_all():
    pair = outline(0.9), outline(0.6)
    measures = {"marked_in": "both", **measures_of(pair, 90.0)}
    measures["jacobian"] = 0.934
    row = Followed("1", "matched", "", np.zeros((2, 3)), pair, measures).row()
    lines = described(row)
    assert " ".join(lines[-2:]) == "lung around it: 0.93 times as large in moving"
    assert max(map(len, lines)) <= 38  # the width of the column beside the pictures
    assert row["change"] == "grown" and row["moving_ml"] == 0.6 and row["doubling_days"] > 0


def outline(ml, hu=20.0, radius_mm=6.0):
    mask = Volume(np.ones((2, 2, 2), np.uint8), np.eye(4))
    named = {"lung_hu": -860.0, "blurred_mm": 4.0, "elongation": 1.0, "compact": True}
    return Outline(np.zeros(3), ml, hu, radius_mm=radius_mm, mask=mask, **named)


def test_a_small_state_takes_the_density_of_the_larger_one():
    small, large = outline(0.2, hu=-420.0, radius_mm=3.0), outline(1.0)
    found = measures_of((large, small), 100.0)
    assert found["moving_ml"] == pytest.approx(0.2 * 440 / 880) and found["fixed_ml"] == 1.0
    assert found["doubling_days"] == pytest.approx(100 * np.log(2) / np.log(10))
    found = measures_of((outline(1.0), outline(0.2, hu=-420.0, radius_mm=5.0)), 100.0)
    assert found["moving_ml"] == 0.2  # not blurred: it is less dense


def test_a_change_within_the_tolerance_has_no_doubling_time():
    found = measures_of((outline(1.2), outline(1.0)), 100.0)
    assert found["change"] == "stable" and found["doubling_days"] is None
    assert measures_of((outline(1.3), outline(1.0)), None)["change"] == "grown"
    assert measures_of((outline(1.3), outline(1.0)), -9.0)["change"] == "shrunk"
    assert measures_of((outline(1.3), None), 9.0) == {}


@pytest.mark.parametrize(
    ("days", "dates", "expected"),
    [
        (-365.0, ("2025-01-10", "2026-01-10"), "fixed 2025-01-10 is 365 days before moving 2026-"),
        (
            90.0,
            None,
            "0 lesions: 0 matched, 0 new, 0 vanished, 0 uncertain; fixed is 90 days after",
        ),
        (None, ("2025-01-10", "2025-01-10"), "fixed 2025-01-10, moving 2025-01-10"),
        (None, None, "no interval given"),
    ],
)
def test_the_line_says_which_scan_is_the_earlier_one(days, dates, expected):
    image = Volume(np.zeros((2, 2, 2)), np.eye(4))
    told = dates and dict(zip(("fixed", "moving"), dates, strict=True))
    found = FollowUp(image, image, image, [], {"days": days, "dates": told})
    assert expected in found.line()


def test_strict_says_by_the_status_that_there_are_warnings(words, folder, tmp_path, capsys):
    image = read_labels(folder / "fixed_lobes.nii.gz")
    half = tmp_path / "half.nii.gz"  # every other voxel: another grid, which is warned of
    affine = image.affine @ np.diag([2.0, 1.0, 1.0, 1.0])
    write_volume(half, Volume(image.data[::2].astype(np.uint8), affine))
    warned = (*words, "--fixed-mask", half, "--out", tmp_path / "o")
    assert [run("follow", *warned), run("follow", *warned, "--strict")] == [0, 3]
    assert "these labels are on another grid" in capsys.readouterr().err
    assert json.loads((tmp_path / "o" / "follow.json").read_text(encoding="utf-8"))["warnings"]


def test_wrong_calls_end_with_one_line(words, folder, tmp_path, capsys):
    assert run("follow", *words, "--days", "0", "--out", tmp_path) == 1
    assert "--days: expected 1 to 40000, got 0. Correct it." in capsys.readouterr().err
    missing = ("--lesions", tmp_path / "none.csv")
    assert run("follow", *words, *missing, "--out", tmp_path) == 1
    assert "none.csv: expected a file of points, got none" in capsys.readouterr().err


def test_labels_of_the_other_image_end_with_one_line(pair, folder, tmp_path, capsys):
    field = ("--field", folder / "field.nii.gz", "--out", tmp_path / "o", *SMALL)
    shifted = {}
    for name in ("fixed", "fixed_labels"):
        image = getattr(pair, name)
        affine = np.array(image.affine)
        affine[:3, 3] += 1.3
        shifted[name] = tmp_path / f"{name}.nii.gz"
        write_volume(shifted[name], Volume(image.data, affine))
    images = (shifted["fixed"], folder / "moving.nii.gz")
    labels = ("--lesions", folder / "moving_lobes.nii.gz")
    assert run("follow", *images, *labels, *field) == 1
    assert "got labels on the grid of the moving image" in capsys.readouterr().err
    labels = ("--lesions", folder / "fixed.csv", "--moving-lesions", shifted["fixed_labels"])
    assert run("follow", *images, *labels, *field) == 1
    assert "got labels on the grid of the fixed image" in capsys.readouterr().err
    assert not (tmp_path / "o" / "follow.json").exists()
