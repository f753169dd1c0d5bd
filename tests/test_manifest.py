"""The manifest of a user's own pairs."""

import json

import numpy as np
import pytest

from jaxreg.datasets.manifest import read_manifest
from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import write_volume
from jaxreg.io.notes import FileWarning
from jaxreg.io.points import Landmarks, write_landmarks

AFFINE = np.diag([-1.0, -1.2, 2.5, 1.0])
OTHER = AFFINE @ np.diag([0.9, 0.8, 0.7, 1.0])


@pytest.fixture
def folder(tmp_path):
    """Two images on different grids, masks, labels and points."""
    rng = np.random.default_rng(0)
    for name, shape in (("fixed", (6, 5, 4)), ("moving", (7, 5, 4))):
        ct = rng.normal(-700, 100, shape)
        (tmp_path / "scans").mkdir(exist_ok=True)
        write_volume(tmp_path / "scans" / f"{name}.nii.gz", Volume(ct, AFFINE))
        mask = rng.random(shape) > 0.5
        write_volume(tmp_path / f"{name}_mask.nii.gz", Volume(mask, AFFINE))
        labels = rng.integers(0, 6, shape)
        write_volume(tmp_path / f"{name}_labels.nii.gz", Volume(labels, AFFINE))
    far = AFFINE.copy()
    far[0, 3] += 1000
    write_volume(tmp_path / "far.nii.gz", Volume(np.ones((2, 2, 2), int), far))
    points = rng.uniform(0, 5, (2, 4, 3))
    landmarks = Landmarks(points[0], points[1], np.array(["vessel"] * 4))
    write_landmarks(tmp_path / "points.csv", landmarks, space="LPS")
    return tmp_path


MINIMAL = {"fixed": "scans/fixed.nii.gz", "moving": "scans/moving.nii.gz"}
COMPLETE = {
    "id": "one",
    **MINIMAL,
    "fixed_mask": "fixed_mask.nii.gz",
    "moving_mask": "moving_mask.nii.gz",
    "fixed_labels": "fixed_labels.nii.gz",
    "moving_labels": "moving_labels.nii.gz",
    "keypoints": "points.csv",
    "landmarks": "points.csv",
}


def write(folder, content):
    path = folder / "pairs.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_reads_pairs_and_their_files(folder, monkeypatch, tmp_path_factory):
    path = write(folder, [COMPLETE, MINIMAL])
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))  # paths are relative to the JSON
    one, two = read_manifest(path)
    assert (one.id, two.id) == ("one", "pair-2")
    assert one.fixed == folder / "scans/fixed.nii.gz"
    loaded = one.load()
    assert loaded.id == "one"
    assert loaded.fixed.data.dtype == np.float32
    assert loaded.moving.shape == (7, 5, 4)
    assert loaded.fixed_mask.data.dtype == loaded.moving_labels.data.dtype == np.int32
    assert set(np.unique(loaded.moving_mask.data)) == {0, 1}
    assert loaded.fixed_labels.data.max() == 5
    assert loaded.keypoints.fixed.shape == loaded.landmarks.moving.shape == (4, 3)
    bare = two.load()
    assert bare.fixed_mask is bare.landmarks is None


def test_reading_a_manifest_reads_no_image(folder, monkeypatch):
    def fail(*_):
        raise AssertionError("image values were read")

    monkeypatch.setattr("jaxreg.io.nifti.read_volume", fail)
    assert len(read_manifest(write(folder, [COMPLETE]))) == 1


def test_points_without_a_space_take_that_of_the_manifest(folder):
    lines = (folder / "points.csv").read_text(encoding="utf-8").splitlines()[1:]
    (folder / "points.csv").write_text("\n".join(lines), encoding="utf-8")
    loaded = read_manifest(write(folder, [{**COMPLETE, "space": "LPS"}]))[0].load()
    assert loaded.landmarks.fixed[0, 0] == -float(lines[1].split(",")[1])
    with pytest.raises(ValueError, match="keypoints: .*expected RAS or LPS to be stated once"):
        read_manifest(write(folder, [COMPLETE]))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('[{"fixed": }]', "pairs.json: expected JSON, got 'Expecting value: line 1 column 12"),
        ({"pairs": []}, r"expected a list of pairs, got \{\"pairs\": \[\]\}\. Write \[\{\"fixed\""),
        ([], r"expected a list of pairs, got \[\]"),
        (["a"], 'pair 1: expected an object with fixed and moving, got "a"'),
        ([{"fixed": "scans/fixed.nii.gz"}], "pair 1: 'moving' is missing"),
        ([{**MINIMAL, "fixed_mask": 3}], "pair 1: fixed_mask: expected text, got 3"),
        (
            [{**MINIMAL, "mask": "a"}],
            "pair 1: unknown key 'mask'; expected id, fixed, moving, fixed_m",
        ),
        ([{**MINIMAL, "space": "ITK"}], 'space: expected RAS or LPS, got "ITK"'),
        (
            [MINIMAL, {**MINIMAL, "id": "pair-1"}],
            "id 'pair-1': expected unique ids, got it 2 times",
        ),
        (
            [{**MINIMAL, "fixed": "a.nii.gz"}],
            "pair 1: fixed: .*a.nii.gz: expected a file or folder, got no such file",
        ),
        (
            [{**MINIMAL, "moving": "points.csv"}],
            r"moving: .*points\.csv: expected a file ending in",
        ),
        (
            [{**MINIMAL, "id": "x", "fixed_mask": "far.nii.gz"}],
            r"pair 1 \(x\): fixed and fixed_mask: expected files that overlap, got 6 x 5 x 4 .* 2",
        ),
        (
            [{**MINIMAL, "landmarks": "b.csv"}],
            "landmarks: .*b.csv: expected a CSV file, got no such",
        ),
    ],
)
def test_each_problem_has_its_words(folder, content, text):
    with pytest.raises(ValueError, match=text):
        read_manifest(write(folder, content))


@pytest.mark.parametrize("content", ["[" * 100000, '[{"fixed": ' * 100000, "1" * 5000])
def test_json_nested_too_deep_or_with_absurd_numbers_is_refused(folder, content):
    with pytest.raises(ValueError, match=r"pairs\.json: expected"):
        read_manifest(write(folder, content))


def test_labels_on_another_grid_come_to_that_of_their_image(folder):
    labels = Volume(np.ones((7, 6, 5), int), OTHER)
    write_volume(folder / "other.nii.gz", labels)
    (pair,) = read_manifest(write(folder, [{**MINIMAL, "fixed_labels": "other.nii.gz"}]))
    with pytest.warns(FileWarning, match="other.nii.gz: these labels are on another grid"):
        loaded = pair.load()
    assert loaded.fixed_labels.grid.matches(loaded.fixed.grid)
    assert set(np.unique(loaded.fixed_labels.data)) <= {0, 1}


def test_one_error_lists_all_problems(folder):
    entries = [
        {**COMPLETE, "fixed_mask": "far.nii.gz", "landmarks": "none.csv"},
        {"id": "two", "fixed": "scans/fixed.nii.gz", "lobes": "x", "weight": 2},
        {**COMPLETE, "fixed_labels": "far.nii.gz", "moving": "gone.nii.gz"},
    ]
    with pytest.raises(
        ValueError, match="expected 3 complete pairs, got 8 problems. Mend:"
    ) as info:
        read_manifest(write(folder, entries))
    lines = str(info.value).splitlines()[1:]
    beginnings = [
        "- pair 1 (one): fixed and fixed_mask: expected files that overlap",
        "- pair 1 (one): landmarks: ",
        "- pair 2 (two): unknown key 'lobes'",
        "- pair 2 (two): unknown key 'weight'",
        "- pair 2 (two): 'moving' is missing",
        "- pair 3 (one): moving: ",
        "- pair 3 (one): fixed and fixed_labels: expected files that overlap",
        "- id 'one': expected unique ids, got it 2 times",
    ]
    assert [line[: len(b)] for line, b in zip(lines, beginnings, strict=True)] == beginnings


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="x.json: expected a manifest, got no such file"):
        read_manifest(tmp_path / "x.json")


@pytest.mark.parametrize("name", ["a0001_m3", "a0001_m4", "cip64_m2", "cip64_m5"])
def test_development_pairs(shared, tmp_path, name):
    folder = shared / "data" / name
    files = {
        key: str(folder / f"{key}.nii.gz") for key in COMPLETE if key[:5] in ("fixed", "movin")
    }
    entry = {"id": name, **files, "landmarks": str(folder / "landmarks.csv"), "space": "LPS"}
    loaded = read_manifest(write(tmp_path, [entry]))[0].load()
    stated = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    for image, mask, points in (
        (loaded.fixed, loaded.fixed_mask, loaded.landmarks.fixed),
        (loaded.moving, loaded.moving_mask, loaded.landmarks.moving),
    ):
        figures = stated["images"]["fixed" if image is loaded.fixed else "moving"]
        assert list(image.shape) == figures["size"]
        np.testing.assert_allclose(image.spacing_mm, figures["spacing"], rtol=1e-5)
        litres = mask.data.sum() * np.prod(image.spacing_mm) / 1e6
        assert litres == pytest.approx(figures["lung_litres"], abs=0.01)
        voxels = np.round(image.voxel_from_world(points)).astype(int)
        inside = mask.data[tuple(voxels.T)]
        assert inside.mean() > 0.97  # a wrong sign or axis puts landmarks outside of the lungs
