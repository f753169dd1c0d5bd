"""Everything that is measured of one displacement field, as fields of a `Record`.

All scores take the field on the fixed image's own grid, whichever method it is from.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxreg.benchmark.cases import GroundTruth
from jaxreg.datasets.manifest import LoadedPair
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.resampling import invert_field
from jaxreg.geometry.volume import DisplacementField, Volume, resample
from jaxreg.geometry.warping import warp_volume
from jaxreg.io.points import Landmarks
from jaxreg.metrics import folding, surfaces
from jaxreg.metrics import landmarks as metrics
from jaxreg.metrics.boundaries import boundary_error, fissure_error
from jaxreg.ops.certificate import uncertified_cells
from jaxreg.ops.jacobian import jacobian_determinant

_INVERSE_STEP_MM = 3.0  # between the points at which the inverse is tried


def field_scores(
    ground_truth: GroundTruth,
    pair: LoadedPair,
    field: DisplacementField,
    *,
    lungs: Volume,
    prealignment: np.ndarray,
) -> dict[str, Any]:
    """All scores of a field.

    Args:
        ground_truth: of the case.
        pair: its images.
        field: fixed to moving, on the grid of the fixed image.
        lungs: of the fixed image, nonzero inside.
        prealignment: (4, 4), linear part of the field, to start its inversion from.

    Returns:
        Values by the name of the field of `jaxreg.benchmark.results.Record`.
    """
    scores = fold_scores(field, lungs) | inverse_scores(
        field, lungs, pair.moving.grid, prealignment=prealignment
    )
    labels = pair.moving_labels
    warped = warp_volume(labels, field, fill=0, sampling="nearest") if labels else None
    return scores | _known_scores(ground_truth, pair, field, warped)


def initial_scores(ground_truth: GroundTruth) -> dict[str, Any]:
    """Scores without registration; landmarks alone, where there are neither masks nor labels."""
    if ground_truth.snap_grid is not None:
        return _landmark_fields(ground_truth, lambda points: points)
    pair = ground_truth.images()
    unmoved = DisplacementField(np.zeros((*pair.fixed.shape, 3), np.float32), pair.fixed.affine)
    labels, grid = pair.moving_labels, pair.fixed.grid
    resampled = resample(labels, grid.affine, grid.shape, order=0, fill=0.0) if labels else None
    return _known_scores(ground_truth, pair, unmoved, resampled)


def _known_scores(ground_truth, pair, field, warped_labels):
    """Landmarks, keypoints, overlap and boundaries, as far as the ground truth is known."""
    scores = _landmark_fields(ground_truth, field.transform_points)
    if pair.keypoints:
        mapped = field.transform_points(pair.keypoints.fixed)
        scores["keypoint_tre_mm"] = metrics.tre(mapped, pair.keypoints.moving).tolist()
    if _lobes(pair):
        scores |= overlap_scores(pair.fixed_labels, warped_labels)
        scores["fissures"] = fissure_error(pair.fixed_labels, pair.moving_labels, field)
    lungs = _lungs(pair)
    if lungs:
        scores["boundary"] = boundary_error(*lungs, field)
    return scores


def _landmark_fields(ground_truth, mapping):
    if not ground_truth.landmarks:
        return {}
    mapped = mapping(ground_truth.landmarks.fixed)
    scores = landmark_scores(ground_truth.landmarks, mapped, snap_grid=ground_truth.snap_grid)
    return scores | {"landmark_kind": ground_truth.landmarks.kind.tolist()}


def _lobes(pair):
    return pair.fixed_labels is not None and pair.moving_labels is not None


def _lungs(pair):
    """Masks of both images, or the labels where there are no masks; None without either."""
    if pair.fixed_mask and pair.moving_mask:
        return pair.fixed_mask, pair.moving_mask
    return (pair.fixed_labels, pair.moving_labels) if _lobes(pair) else None


def landmark_scores(
    landmarks: Landmarks, mapped: np.ndarray, *, snap_grid: Grid | None
) -> dict[str, Any]:
    """Errors of landmarks.

    Args:
        landmarks: the ground truth.
        mapped: its fixed points taken to the moving image, RAS mm, (N, 3).
        snap_grid: of the moving image, where landmarks are whole voxels of it; else None.

    Returns:
        tre_mm, and with `snap_grid` tre_snapped_mm.
    """
    if snap_grid is None:
        return {"tre_mm": metrics.tre(mapped, landmarks.moving).tolist()}
    plain, snapped = metrics.tre_dirlab(
        snap_grid.voxel_from_world(mapped),
        snap_grid.voxel_from_world(landmarks.moving).round(6),  # whole again
        spacing_mm=snap_grid.spacing_mm,
    )
    return {"tre_mm": plain.tolist(), "tre_snapped_mm": snapped.tolist()}


def overlap_scores(fixed_labels: Volume, warped_labels: Volume) -> dict[str, Any]:
    """Overlap and surface distances of each label; one search serves all distances of a label.

    Args:
        fixed_labels: label map of the fixed image, 0 outside.
        warped_labels: label map of the moving image, warped to the same grid.

    Returns:
        {"overlap": {label: {"dice", "asd_mm", "hd_mm", "hd95_mm"}}}, the distances only where both
        images have the label.
    """
    a, b = (labels.data.astype(np.int32) for labels in (fixed_labels, warped_labels))
    overlap = {}
    for label, dice in metrics.dice(a, b).items():
        scores = {"dice": dice}
        if np.any(a == label) and np.any(b == label):
            distances = surfaces.surface_distances(
                a == label, b == label, spacing_mm=fixed_labels.spacing_mm
            )
            scores |= {
                "asd_mm": surfaces.asd(distances),
                "hd_mm": surfaces.hd(distances),
                "hd95_mm": surfaces.hd95(distances),
            }
        overlap[str(label)] = scores
    return {"overlap": overlap}


def fold_scores(field: DisplacementField, lungs: Volume) -> dict[str, Any]:
    """Volume change and both fold counts in the lungs.

    Args:
        field: fixed to moving, on the grid of the fixed image.
        lungs: of the fixed image, nonzero inside.

    Returns:
        {"determinant": measures of the Jacobian determinant, "uncertified": fraction of cells that
        are not proven free of folds}.
    """
    u = field.to_voxels()
    determinant = np.asarray(jax.jit(jacobian_determinant)(u))
    return {
        "determinant": dataclasses.asdict(folding.determinant_summary(determinant, lungs.data)),
        "uncertified": folding.uncertified_fraction(np.asarray(uncertified_cells(u)), lungs.data),
    }


def inverse_scores(
    field: DisplacementField, lungs: Volume, moving: Grid, *, prealignment: np.ndarray
) -> dict[str, Mapping[str, float]]:
    """Inverse-consistency error |T(T^-1(q)) - q| at points q of the moving lungs, 3 mm apart.

    The moving lungs are the points that T^-1 takes into the fixed ones.

    Args:
        field: T, fixed to moving.
        lungs: of the fixed image.
        moving: grid of the moving image.
        prealignment: (4, 4), linear part of T.

    Returns:
        Mean and greatest value, mm; nothing where no point is in the lungs.
    """
    step = np.array([max(1, round(_INVERSE_STEP_MM / s)) for s in moving.spacing_mm])
    x, y, z = (-(-n // int(s)) for n, s in zip(moving.shape, step, strict=True))
    coarse = Grid((x, y, z), moving.affine @ np.diag([*step, 1.0]))
    inverse, error = invert_field(field, coarse, matrix=prealignment)
    inside = warp_volume(lungs, inverse, fill=0, sampling="nearest").data > 0
    if not inside.any():
        return {}
    values = error.data[inside].astype(np.float64)
    return {"inverse_consistency_mm": {"mean": float(values.mean()), "max": float(values.max())}}
