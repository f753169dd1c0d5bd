"""Learn2Reg: its dataset JSON, and its displacement format read by its evaluation's definitions."""

import json

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from jaxreg.datasets import learn2reg
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.nifti import write_volume

SHAPE = (9, 8, 7)
AFFINE = np.diag([-1.5, -1.25, 2.0, 1.0])
MOVING_AFFINE = AFFINE + np.array([[0, 0, 0, 3.0], [0, 0, 0, -2], [0, 0, 0, 1], [0, 0, 0, 0]])


@pytest.fixture
def task(tmp_path):
    """Two pairs; the second without masks."""
    rng = np.random.default_rng(0)
    for subject in ("0101", "0102"):
        for scan, affine in (("0000", AFFINE), ("0001", MOVING_AFFINE)):
            name = f"NLST_{subject}_{scan}"
            folders = {"images": rng.normal(-700, 100, SHAPE)}
            if subject == "0101":
                folders["masks"] = (rng.random(SHAPE) > 0.5).astype(np.uint8)
            for folder, data in folders.items():
                (tmp_path / f"{folder}Tr").mkdir(exist_ok=True)
                write_volume(tmp_path / f"{folder}Tr" / f"{name}.nii.gz", Volume(data, affine))
            (tmp_path / "keypointsTr").mkdir(exist_ok=True)
            points = rng.uniform(1, 5, (6, 3))
            np.savetxt(tmp_path / "keypointsTr" / f"{name}.csv", points, "%.5f", delimiter=",")
    pairs = [
        {"fixed": f"./imagesTr/NLST_{s}_0000.nii.gz", "moving": f"./imagesTr/NLST_{s}_0001.nii.gz"}
        for s in ("0101", "0102")
    ]
    content = {"name": "NLST", "registration_val": pairs, "training_paired_images": pairs[:1]}
    (tmp_path / "NLST_dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def test_reads_pairs_with_what_lies_beside(task):
    dataset = learn2reg.read_dataset(task / "NLST_dataset.json")
    assert (dataset.name, dataset.listed, len(dataset.pairs)) == ("NLST", "registration_val", 2)
    assert dataset.masked
    first, second = (learn2reg.load_pair(pair) for pair in dataset.pairs)
    assert (first.id, second.id) == ("0101_0101", "0102_0102")
    assert first.fixed.shape == SHAPE and first.moving_mask is not None
    assert second.fixed_mask is None and first.fixed_labels is first.landmarks is None
    voxels = np.loadtxt(task / "keypointsTr" / "NLST_0101_0001.csv", delimiter=",")
    np.testing.assert_allclose(first.moving.voxel_from_world(first.keypoints.moving), voxels)


@pytest.mark.parametrize("scans, name", [(("0000", "0000"), "0001_0002"), (("0001", "0000"), "")])
def test_names_of_pairs_are_those_of_the_challenge(tmp_path, scans, name):
    fixed, moving = f"0001_{scans[0]}", f"0002_{scans[1]}"
    pair = {"fixed": f"imagesTs/A_{fixed}.nii.gz", "moving": f"imagesTs/A_{moving}.nii.gz"}
    (tmp_path / "a.json").write_text(
        json.dumps({"task_name": "A", "eval_pairs": [pair]}), encoding="utf-8"
    )
    dataset = learn2reg.read_dataset(tmp_path / "a.json")
    assert dataset.pairs[0].id == (name or f"{fixed}_{moving}") and dataset.name == "A"
    assert not dataset.masked  # an evaluation config would say so


def test_a_written_displacement_scores_by_the_challenges_definitions(task, tmp_path):
    """Warping and TRE as github.com/MDL-UzL/L2R computes them, from the file alone."""
    pair = learn2reg.load_pair(learn2reg.read_dataset(task / "NLST_dataset.json").pairs[0])
    slopes = np.array([[0.03, 0.0, 0.01], [0.0, -0.02, 0.0], [0.01, 0.0, 0.04]])
    points = pair.fixed.world_from_voxel(np.stack(np.indices(SHAPE), axis=-1))
    field = DisplacementField(points @ slopes + [2.0, -1.0, 1.5], AFFINE)
    learn2reg.write_displacement(tmp_path / "out", pair, field)
    disp = nibabel.load(tmp_path / "out" / "disp_0101_0101.nii.gz").get_fdata()
    assert disp.shape == (*SHAPE, 3)
    fixed, moving = (
        np.loadtxt(task / "keypointsTr" / f"NLST_0101_000{scan}.csv", delimiter=",")
        for scan in (0, 1)
    )
    shift = np.stack([ndimage.map_coordinates(disp[..., c], fixed.T) for c in range(3)], axis=1)
    theirs = np.linalg.norm((fixed + shift - moving) * pair.moving.spacing_mm, axis=1)
    ours = field.transform_points(pair.keypoints.fixed) - pair.keypoints.moving
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), theirs, atol=0.02)
    place = (4, 3, 2)
    mapped = pair.moving.voxel_from_world(points[place] + field.data[place])
    np.testing.assert_allclose(np.array(place) + disp[place], mapped, atol=1e-4)


def test_index_shift_is_the_displacement_in_voxels_on_equal_grids():
    data = np.random.default_rng(1).normal(0, 3, (*SHAPE, 3)).astype(np.float32)
    field = DisplacementField(data, AFFINE)
    np.testing.assert_allclose(field.index_shift(field.grid), field.to_voxels(), atol=1e-6)


def test_what_is_wrong_is_named(task):
    with pytest.raises(FileNotFoundError, match="Download the task at https://learn2reg"):
        learn2reg.read_dataset(task / "none.json")
    path = task / "other.json"
    path.write_text('{"training": []}', encoding="utf-8")
    with pytest.raises(ValueError, match="expected a list of pairs under .*got the keys training"):
        learn2reg.read_dataset(path)
    path.write_text(
        '{"eval_pairs": [{"fixed": "a.nii.gz", "moving": "b.nii.gz"}]}', encoding="utf-8"
    )
    with pytest.raises(ValueError, match='expected pairs .*got {"fixed": "a.nii.gz"'):
        learn2reg.read_dataset(path)
    path.write_text("[", encoding="utf-8")
    with pytest.raises(ValueError, match="other.json: expected JSON"):
        learn2reg.read_dataset(path)
    points = task / "keypointsTr" / "NLST_0101_0000.csv"
    points.write_text("1,2\n", encoding="utf-8")
    pair = learn2reg.read_dataset(task / "NLST_dataset.json").pairs[0]
    with pytest.raises(ValueError, match="NLST_0101_0000.csv: expected lines x,y,z, got shape"):
        learn2reg.read_points(pair, "keypoints")
    points.write_text("1,2,3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="expected the same points twice"):
        learn2reg.read_points(pair, "keypoints")


@pytest.mark.parametrize(
    "content",
    [
        '{"registration_val": 3}',
        '{"registration_val": {"fixed": "a"}}',
        '{"registration_val": [3]}',
        '{"registration_val": [{"fixed": 3, "moving": ["a"]}]}',
        '{"registration_val": [{"fixed": "a_0001_0000.nii.gz\\u0000", "moving": "b"}]}',
        '{"registration_val": [{"fixed": "imagesTr/%s_0001_0000.nii.gz", "moving": "b"}]}'
        % ("x" * 5000),
        "[" * 100000,
    ],
)
def test_fields_of_a_wrong_type_are_refused(tmp_path, content):
    path = tmp_path / "NLST_dataset.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="NLST_dataset.json: expected") as info:
        learn2reg.read_dataset(path)
    assert len(str(info.value)) < 600
