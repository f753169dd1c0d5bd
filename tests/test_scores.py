"""Scores of known fields: landmarks, overlap with SimpleITK, folds, inverse."""

import numpy as np
import pytest

from jaxreg.benchmark import scores
from jaxreg.benchmark.cases import GroundTruth
from jaxreg.datasets.manifest import LoadedPair
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.points import Landmarks

sitk = pytest.importorskip("SimpleITK")

SHAPE = (18, 16, 14)
AFFINE = np.diag([-2.0, 1.5, 3.0, 1.0])
SHIFT_MM = np.array([4.0, -3.0, 3.0])  # whole voxels: -2, -2, 1


def boxes():
    labels = np.zeros(SHAPE, np.int32)
    labels[5:9, 5:12, 4:11], labels[11:15, 5:12, 4:11] = 1, 2
    return labels


@pytest.fixture
def pair():
    """The moving labels are the fixed ones moved by SHIFT_MM."""
    labels = boxes()
    moved = np.roll(labels, (-2, -2, 1), axis=(0, 1, 2))
    points = np.random.default_rng(0).uniform(-20, 20, (5, 3))
    keypoints = Landmarks(points, points + SHIFT_MM + [0.0, 0.3, 0.4], np.full(5, ""))
    landmarks = Landmarks(points, points + SHIFT_MM, np.full(5, "vessel"))
    image = Volume(np.zeros(SHAPE, np.float32), AFFINE)
    return LoadedPair(
        "1",
        fixed=image,
        moving=image,
        fixed_mask=None,
        moving_mask=None,
        fixed_labels=Volume(labels, AFFINE),
        moving_labels=Volume(moved, AFFINE),
        keypoints=keypoints,
        landmarks=landmarks,
    )


def shifted(fraction=1.0):
    return DisplacementField(np.broadcast_to(fraction * SHIFT_MM, (*SHAPE, 3)), AFFINE)


def score(pair, field):
    truth = GroundTruth("inhale", pair.landmarks, None, lambda: pair)
    return scores.field_scores(truth, pair, field, lungs=pair.fixed_labels, prealignment=np.eye(4))


def test_the_true_field_scores_perfectly(pair):
    found = score(pair, shifted())
    np.testing.assert_allclose(found["tre_mm"], 0.0, atol=1e-5)
    np.testing.assert_allclose(found["keypoint_tre_mm"], 0.5, atol=1e-5)
    assert found["landmark_kind"] == ["vessel"] * 5
    perfect = {"dice": 1.0, "asd_mm": 0.0, "hd_mm": 0.0, "hd95_mm": 0.0}
    assert found["overlap"] == {"1": perfect, "2": perfect}
    assert found["boundary"] == 0.0 and found["fissures"] is None
    assert found["determinant"]["folds"] == found["uncertified"] == 0.0
    assert found["determinant"]["sd_log"] == pytest.approx(0.0, abs=1e-6)
    assert found["inverse_consistency_mm"]["max"] == pytest.approx(0.0, abs=1e-4)


def test_no_registration_scores_as_a_field_of_zeros(pair):
    truth = GroundTruth("inhale", pair.landmarks, None, lambda: pair)
    initial = scores.initial_scores(truth)
    zeros = score(pair, shifted(0.0))
    assert initial == {name: zeros[name] for name in initial}
    assert set(zeros) - set(initial) == {"determinant", "uncertified", "inverse_consistency_mm"}
    np.testing.assert_allclose(initial["tre_mm"], np.linalg.norm(SHIFT_MM))


def test_overlap_agrees_with_simpleitk(pair):
    rng = np.random.default_rng(1)
    warped = np.where(rng.random(SHAPE) < 0.05, 0, np.roll(boxes(), 1, axis=1)).astype(np.int32)
    found = scores.overlap_scores(pair.fixed_labels, Volume(warped, AFFINE))["overlap"]
    images = []
    for data in (boxes(), warped):
        images.append(sitk.GetImageFromArray(data.transpose(2, 1, 0)))
        images[-1].SetSpacing((2.0, 1.5, 3.0))
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(*images)
    for label in (1, 2):
        one = found[str(label)]
        assert one["dice"] == pytest.approx(measures.GetDiceCoefficient(label))
        contours = [sitk.BinaryContour(image == label, fullyConnected=False) for image in images]
        hausdorff = sitk.HausdorffDistanceImageFilter()
        hausdorff.Execute(*contours)
        assert one["hd_mm"] == pytest.approx(hausdorff.GetHausdorffDistance(), rel=1e-5)
        # ITK's mean of the two directed means weighs both surfaces alike, ours each voxel
        directed = []
        for here, there in (contours, contours[::-1]):
            distance = sitk.SignedMaurerDistanceMap(
                there, squaredDistance=False, useImageSpacing=True
            )
            on_surface = sitk.GetArrayFromImage(here) > 0
            directed.append(np.abs(sitk.GetArrayFromImage(distance)[on_surface]))
        assert one["asd_mm"] == pytest.approx(np.concatenate(directed).mean(), rel=1e-5)
        theirs = np.mean([distances.mean() for distances in directed])
        assert hausdorff.GetAverageHausdorffDistance() == pytest.approx(theirs, rel=1e-5)


def test_a_label_that_is_lost_has_no_distances(pair):
    lost = np.where(boxes() == 2, 0, boxes()).astype(np.int32)
    overlap = scores.overlap_scores(pair.fixed_labels, Volume(lost, AFFINE))["overlap"]
    assert overlap["2"] == {"dice": 0.0} and overlap["1"]["hd_mm"] == 0.0
    apart = np.roll(np.where(boxes() == 1, 1, 0), 4, axis=1).astype(np.int32)
    overlap = scores.overlap_scores(pair.fixed_labels, Volume(apart, AFFINE))["overlap"]
    assert overlap["1"]["dice"] == pytest.approx(3 / 7)
    assert overlap["1"]["hd_mm"] == pytest.approx(6.0)


def test_inverse_error_of_a_field_that_folds(pair):
    u = np.zeros((*SHAPE, 3), np.float32)
    u[..., 0] = 3.0 * np.sin(np.arange(SHAPE[0]))[:, None, None]  # slopes down to -3
    folded = DisplacementField.from_voxels(u, AFFINE)
    found = scores.inverse_scores(
        folded, pair.fixed_labels, Grid(SHAPE, AFFINE), prealignment=np.eye(4)
    )
    smooth = scores.inverse_scores(
        shifted(), pair.fixed_labels, Grid(SHAPE, AFFINE), prealignment=np.eye(4)
    )
    assert (
        found["inverse_consistency_mm"]["max"]
        > 1.0
        > 1e-3
        > smooth["inverse_consistency_mm"]["max"]
    )
    far = DisplacementField(np.full((*SHAPE, 3), 900.0, np.float32), AFFINE)
    assert scores.inverse_scores(far, pair.fixed_labels, far.grid, prealignment=np.eye(4)) == {}


def test_snapped_landmarks_are_whole_voxels(pair):
    grid = Grid(SHAPE, AFFINE)
    voxels = np.array([[4, 5, 6], [7, 8, 9]])
    marks = Landmarks(
        grid.world_from_voxel(voxels), grid.world_from_voxel(voxels + 1), np.full(2, "")
    )
    mapped = grid.world_from_voxel(voxels + np.array([[1.4, 1.0, 1.0], [1.0, 1.6, 1.0]]))
    found = scores.landmark_scores(marks, mapped, snap_grid=grid)
    np.testing.assert_allclose(found["tre_mm"], [0.4 * 2.0, 0.6 * 1.5])
    np.testing.assert_allclose(found["tre_snapped_mm"], [0.0, 1.5])
