"""Registration of a pair: of arrays (`register`), of images in the world (`register_volumes`)."""

import contextlib
import dataclasses
import json
import platform
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxreg.classical.affine import prealign
from jaxreg.classical.keypoints import find_keypoints_mm
from jaxreg.classical.lungs import lung_mask
from jaxreg.classical.refine import continue_outside, refine
from jaxreg.config import NetworkConfig
from jaxreg.data.atomic import replacing
from jaxreg.data.frame import AIR_HU, FRAME, labels_to_frame, lung_frame, to_frame
from jaxreg.data.landmarks import Landmarks
from jaxreg.data.nifti import write_displacement, write_volume
from jaxreg.data.volume import DisplacementField, Volume, check_ct, require_same_grid
from jaxreg.data.warping import (
    field_determinant,
    field_on_grid,
    inverse_consistency,
    invert_field,
    warp_volume,
)
from jaxreg.fields.certificate import repair
from jaxreg.fields.deformation import resize_displacement
from jaxreg.fields.interpolation import resize
from jaxreg.fields.jacobian import fold_count
from jaxreg.network.cascade import cascade
from jaxreg.network.weights import load_shipped, weights_digest
from jaxreg.shapes import AnyArray, Displacement

METHODS = ("initial", "affine", "cascade", "classical", "full")


def register(
    fixed: Float[AnyArray, "..."],
    moving: Float[AnyArray, "..."],
    *,
    params: Mapping[str, Any] | None = None,
    config: NetworkConfig | None = None,
) -> Displacement:
    """Displacement that takes each voxel of the fixed image to the moving one: the cascade alone.

    A pure function of arrays, for use under `jax.jit`, `jax.vmap` and `jax.grad`. The images are
    resampled to the network grid and the field back to theirs (Hering et al. 2021, section 2.4).
    Best on images cropped to the lungs, axes along RAS; `register_volumes` sees to that.

    Args:
        fixed: HU, (X, Y, Z), any size.
        moving: HU, (X, Y, Z), on the same grid.
        params: of the networks, {"level_1": ..., ...}; None means those that ship with the package.
        config: of the networks, static under `jax.jit`; None means that of the shipped ones.

    Returns:
        u in voxels, (X, Y, Z, 3): fixed voxel x corresponds to x + u(x) in the moving image.

    Raises:
        ValueError: the images do not share a grid.
    """
    if fixed.shape != moving.shape or fixed.ndim != 3:
        raise ValueError(
            f"fixed and moving must share a grid (X, Y, Z): got shapes {fixed.shape} and "
            f"{moving.shape}. Resample one, or use jaxreg.register_volumes."
        )
    params, config = _networks(params, config)
    u = cascade(params, resize(fixed, config.grid), resize(moving, config.grid), config)
    return resize_displacement(u, fixed.shape)


@dataclasses.dataclass(frozen=True)
class Registration:
    """Where each point of the fixed image went in the moving one.

    Attributes:
        fixed: HU.
        moving: HU, on its own grid.
        displacement: d on the fixed grid, world RAS mm; T(x) = x + d(x).
        fixed_mask: lungs of the fixed image, nonzero inside.
        prealignment: (4, 4), the linear part found first, fixed world to moving world, RAS mm.
        summary: settings, versions, seconds by stage, folds, similarity before and after.
        uncertainty: inverse-consistency error |T_back(T(x)) - x| on the fixed grid, mm, if asked
            for; T_back is the registration of the same pair the other way.
    """

    fixed: Volume
    moving: Volume
    displacement: DisplacementField
    fixed_mask: Volume
    prealignment: np.ndarray
    summary: Mapping[str, Any]
    uncertainty: Volume | None = None

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds by stage."""
        return self.summary["seconds"]

    def warp(self, *, image: Volume | None = None) -> Volume:
        """The moving image (or another one in its world) on the fixed grid, linear; air outside."""
        return warp_volume(image or self.moving, self.displacement, fill=AIR_HU)

    def warp_labels(self, labels: Volume) -> Volume:
        """Labels of the moving image on the fixed grid, nearest neighbour; 0 outside."""
        return warp_volume(labels, self.displacement, fill=0, nearest=True)

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Points of the moving image, RAS mm, that belong to fixed points (N, 3), RAS mm."""
        return self.displacement.transform_points(points)

    def jacobian_determinant(self) -> Volume:
        """Volume change on the fixed grid by central differences; <= 0 is a fold."""
        return field_determinant(self.displacement)

    def inverse(self) -> tuple[DisplacementField, Volume]:
        """The map from the moving image to the fixed one, on the moving grid.

        Returns:
            Its field in world RAS mm, and the inverse-consistency error |T(T^-1(q)) - q| in mm.
        """
        return invert_field(self.displacement, self.moving.grid, matrix=self.prealignment)

    def save(self, folder: str | Path) -> None:
        """Writes warped, displacement and jacobian (.nii.gz), report.png and summary.json.

        And uncertainty.nii.gz, where it was asked for.
        Each file is written beside its place and renamed, so none is ever half-written.
        """
        from jaxreg.evaluation.report import report_picture  # matplotlib: only where drawn

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        warped, determinant = self.warp(), self.jacobian_determinant()
        with ThreadPoolExecutor() as pool:  # compression takes no lock: the files share the cores
            files = [
                pool.submit(write_displacement, folder / "displacement.nii.gz", self.displacement),
                pool.submit(write_volume, folder / "warped.nii.gz", warped),
                pool.submit(write_volume, folder / "jacobian.nii.gz", determinant),
            ]
            if self.uncertainty is not None:
                path = folder / "uncertainty.nii.gz"
                files.append(pool.submit(write_volume, path, self.uncertainty))
            report_picture(
                folder / "report.png",
                fixed=self.fixed,
                moving=self.moving,
                warped=warped,
                determinant=determinant,
                mask=self.fixed_mask,
                title=f"jaxreg: {self.summary['method']}",
                lines=self.lines(),
            )
            for file in files:
                file.result()
        with replacing(folder / "summary.json") as target:
            target.write_text(json.dumps(self.summary, indent=2) + "\n", encoding="utf-8")

    def lines(self) -> tuple[str, ...]:
        """The summary in a few lines of words."""
        before, after = self.summary["correlation_before"], self.summary["correlation_after"]
        certificate = self.summary["certificate"]
        words = [
            f"correlation in the lungs {before:.3f} before, {after:.3f} after",
            f"folded lung voxels {100 * self.summary['folds_in_lungs']:.4f} % (central "
            f"differences), cells not certified free of folds: {certificate['uncertified']}",
            f"{sum(self.seconds.values()):.1f} s: "
            + ", ".join(f"{name} {value:.1f}" for name, value in self.seconds.items()),
        ]
        if self.uncertainty is not None:
            error = self.summary["inverse_consistency_mm"]
            words[2:2] = [
                f"there and back in the lungs: {error['50']:.2f} mm off (median), "
                f"{error['95']:.2f} mm (95th percentile)"
            ]
        return tuple(words)


class _Clock:
    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 3)


def register_volumes(
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    method: str = "full",
    params: Mapping[str, Any] | None = None,
    config: NetworkConfig | None = None,
    uncertainty: bool = False,
) -> Registration:
    """Registers two images of any grid, orientation and field of view.

    Lung masks, linear prealignment, frame around the lungs, cascade, refinement, the field on the
    fixed image's own grid, certificate against folds; `method` says which of them take part.

    Args:
        fixed: CT in HU.
        moving: CT in HU.
        fixed_mask: lungs, nonzero inside, on the grid of `fixed`; found automatically if None.
        moving_mask: the same for `moving`.
        method: "initial" (none), "affine", "cascade" (networks alone), "classical" (no networks)
            or "full" (networks, then refinement).
        params: of the networks; None means those that ship with the package.
        config: of the networks; None means that of the shipped ones.
        uncertainty: whether to register the other way too, from the same masks and the inverse
            prealignment, for a map of the inverse-consistency error.

    Returns:
        The registration; its field is on the grid of `fixed`.

    Raises:
        ValueError: an image is no CT in HU, a mask is empty or on another grid, no lungs are found,
            the method is unknown, or leaves nothing uncertain.
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}.")
    if uncertainty and method in ("initial", "affine"):
        raise ValueError(
            f"uncertainty: expected a method that deforms, got {method!r}, whose way back is its "
            "exact inverse. Use classical or full."
        )
    clock, given = _Clock(), (fixed_mask, moving_mask)
    with clock.stage("masks"):
        fixed_mask, moving_mask = _checked_masks(fixed, moving, fixed_mask, moving_mask)
    matrix, stage = np.eye(4), "none"
    if method != "initial":
        with clock.stage("prealignment"):
            matrix, stage = prealign(fixed, moving, fixed_mask, moving_mask)

    if method in ("cascade", "full"):
        params, config = _networks(params, config)
    images, masks, networks = (fixed, moving), (fixed_mask, moving_mask), (params, config)
    field, certificate = _deformation(clock, images, masks, matrix, method, networks)
    error = None
    if uncertainty:
        with clock.stage("uncertainty"):
            images, masks = (moving, fixed), (moving_mask, fixed_mask)
            way_back = np.linalg.inv(matrix)
            back, _ = _deformation(_Clock(), images, masks, way_back, method, networks)
            error = inverse_consistency(field, back)

    registration = Registration(
        fixed, moving, field, fixed_mask, matrix, {"seconds": clock.seconds}, error
    )
    with clock.stage("measures"):
        measures = _measures(registration)
    summary = {
        "method": method,
        "settings": {
            "fixed_mask": "found" if given[0] is None else "given",
            "moving_mask": "found" if given[1] is None else "given",
            "network": None if config is None else dataclasses.asdict(config),
            "weights": None if params is None else weights_digest(params),
        },
        "prealignment": stage,
        "prealignment_matrix": matrix.tolist(),
        "fixed_grid": str(fixed.grid),
        "moving_grid": str(moving.grid),
        **measures,
        "certificate": certificate,
        "seconds": clock.seconds,
        "versions": versions(),
    }
    return dataclasses.replace(registration, summary=summary)


def match_volumes(
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
) -> Landmarks:
    """Thousands of points in the fixed lungs and where they lie in the moving image.

    Lung masks and linear prealignment as in `register_volumes`, then `classical.keypoints`.

    Args:
        fixed: CT in HU.
        moving: CT in HU, on any grid.
        fixed_mask: lungs, nonzero inside, on the grid of `fixed`; found automatically if None.
        moving_mask: the same for `moving`.

    Returns:
        Points of kind "keypoint", RAS mm.

    Raises:
        ValueError: as `register_volumes`; or no point is found.
    """
    fixed_mask, moving_mask = _checked_masks(fixed, moving, fixed_mask, moving_mask)
    matrix, _ = prealign(fixed, moving, fixed_mask, moving_mask)
    points = find_keypoints_mm(fixed, moving, fixed_mask, moving_mask, matrix)
    if len(points.fixed) == 0:
        raise ValueError(
            "fixed and moving: expected lungs of one subject, got no place in them that can be "
            "told in both. Check the images and their masks."
        )
    return points


def versions() -> dict[str, str]:
    """Versions of this package, of JAX and of Python, and the device, for the records."""
    return {
        "jaxreg": metadata.version("jaxreg"),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }


def _checked_masks(
    fixed: Volume, moving: Volume, fixed_mask: Volume | None, moving_mask: Volume | None
) -> tuple[Volume, Volume]:
    """Lungs of both images, given or found."""
    check_ct(fixed, "fixed")
    check_ct(moving, "moving")
    given = (fixed_mask, moving_mask)
    with ThreadPoolExecutor() as pool:
        fixed_mask, moving_mask = pool.map(_lungs, (fixed, moving), given, ("fixed", "moving"))
    if any(mask is not None and _one_label(mask) for mask in given):
        # a mask that does not tell right from left says nothing of a missing lung
        fixed_mask, moving_mask = (
            Volume((mask.data > 0).astype(np.uint8), mask.affine)
            for mask in (fixed_mask, moving_mask)
        )
    return fixed_mask, moving_mask


def _lungs(image: Volume, mask: Volume | None, name: str) -> Volume:
    if mask is None:
        try:
            return lung_mask(image)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    require_same_grid(image, mask, (name, f"{name}_mask"))
    if not np.any(mask.data > 0):
        raise ValueError(
            f"{name}_mask: expected lungs, got no voxel above 0. Leave the mask away to have the "
            "lungs found automatically."
        )
    return mask


def _one_label(mask: Volume) -> bool:
    return len(np.unique(mask.data[mask.data > 0])) == 1


def _deformation(
    clock: _Clock,
    images: tuple[Volume, Volume],
    masks: tuple[Volume, Volume],
    matrix: np.ndarray,
    method: str,
    networks: tuple[Any, Any],
) -> tuple[DisplacementField, dict[str, Any]]:
    """The field on the grid of the first image, prealignment included, and its certificate."""
    frame, u = images[0].grid, np.zeros((1, 1, 1, 3), np.float32)  # no deformation on any grid
    if method in ("cascade", "full"):
        with clock.stage("cascade"):
            frame = lung_frame(*masks, matrix, shape=networks[1].grid)
            u = _cascade_stage(*images, frame, matrix, *networks)
            lungs = labels_to_frame(masks[0], frame) > 0
            u = continue_outside(u, lungs, spacing_mm=frame.spacing_mm)
    if method in ("classical", "full"):
        with clock.stage("refinement"):
            fine = lung_frame(*masks, matrix, shape=FRAME)
            start = field_on_grid(u, frame, fine).to_voxels() if method == "full" else None
            frame, u = fine, _refine_stage(*images, masks[0], fine, matrix, start)
    with clock.stage("certificate"):
        field = field_on_grid(u, frame, images[0].grid, matrix=matrix)
        return _certified(field)


def _cascade_stage(fixed, moving, frame, matrix, params, config) -> Displacement:
    """Displacement by the networks in voxels of the frame."""
    pair = to_frame(fixed, frame), to_frame(moving, frame, matrix=matrix)
    return jax.block_until_ready(_register(*pair, params=params, config=config))


_register = jax.jit(register, static_argnames="config")


def _networks(params, config) -> tuple[Mapping[str, Any], NetworkConfig]:
    """The networks given; each of both that is missing is that of the shipped ones."""
    if params is None or config is None:
        shipped_params, shipped_config = load_shipped()
        params = shipped_params if params is None else params
        config = shipped_config if config is None else config
    return params, config


def _refine_stage(fixed, moving, fixed_mask, frame, matrix, start) -> Displacement:
    """Displacement by optimisation on the pair itself, in voxels of the frame."""
    u = refine(
        to_frame(fixed, frame),
        to_frame(moving, frame, matrix=matrix),
        labels_to_frame(fixed_mask, frame) > 0,
        spacing_mm=frame.spacing_mm,
        initial=start,
    )
    return jax.block_until_ready(u)


def _certified(field: DisplacementField) -> tuple[DisplacementField, dict[str, Any]]:
    """The field, repaired where a cell could fold, and what the repair did."""
    repaired, report = repair(field.to_voxels(), spacing_mm=field.spacing_mm)
    if report.cells:
        field = DisplacementField.from_voxels(repaired, field.affine)
    return field, report._asdict()


def _measures(registration: Registration) -> dict[str, Any]:
    """Folds and similarity in the lungs of the fixed image."""
    lungs = registration.fixed_mask.data > 0
    still = np.zeros((*registration.fixed.shape, 3), np.float32)
    unmoved = DisplacementField(still, registration.fixed.affine)
    before = warp_volume(registration.moving, unmoved, fill=AIR_HU)
    values = registration.fixed.data[lungs]
    determinant = registration.jacobian_determinant().data
    error = registration.uncertainty
    percentiles = {} if error is None else _percentiles(error.data[lungs], (50, 95, 99))
    return {
        "correlation_before": _correlation(values, before.data[lungs]),
        "correlation_after": _correlation(values, registration.warp().data[lungs]),
        "folds_in_lungs": int(fold_count(determinant, lungs)) / int(lungs.sum()),
        "jacobian_percentiles": _percentiles(determinant[lungs], (1, 5, 50, 95, 99)),
        "inverse_consistency_mm": percentiles,
    }


def _percentiles(values: np.ndarray, ranks: tuple[int, ...]) -> dict[str, float]:
    found = np.percentile(values, ranks)
    return {str(rank): float(value) for rank, value in zip(ranks, found, strict=True)}


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's coefficient; 0 where one of both is constant."""
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
