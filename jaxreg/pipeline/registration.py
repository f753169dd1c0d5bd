"""Registration of a pair: of arrays (`register`), of images in the world (`register_volumes`)."""

import contextlib
import dataclasses
import platform
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxreg.config import NetworkConfig
from jaxreg.engine.gauss_newton import continue_outside, refine
from jaxreg.engine.keypoints import find_keypoints_mm
from jaxreg.engine.prealignment import prealign
from jaxreg.geometry.lung_grid import FRAME, lung_frame, pair_to_frame
from jaxreg.geometry.resampling import field_on_grid, inverse_consistency
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.points import Landmarks
from jaxreg.lungs.pair import lungs_of_pair
from jaxreg.network.cascade import cascade
from jaxreg.network.weights import load_shipped, weights_digest
from jaxreg.ops.certificate import repair
from jaxreg.ops.deformation import resize_displacement
from jaxreg.ops.interpolation import resize
from jaxreg.ops.types import AnyArray, Displacement
from jaxreg.pipeline.result import Registration

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
    method: str | None = None,
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
        method: "initial" (none), "affine", "cascade" (networks alone), "classical" (refinement
            alone) or "full" (networks, then refinement, which ends in the field of "classical").
            None means "classical", or "full" if params are given.
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
    if method is None:
        method = "classical" if params is None else "full"
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}.")
    if uncertainty and method in ("initial", "affine"):
        raise ValueError(
            f"uncertainty: expected a method that deforms, got {method!r}, whose way back is its "
            "exact inverse. Use classical or full."
        )
    clock = _Clock()
    with clock.stage("masks"):
        lungs = lungs_of_pair(fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask)
    matrix, stage = np.eye(4), "none"
    if method != "initial":
        with clock.stage("prealignment"):
            matrix, stage = prealign(fixed, moving, *lungs)

    if method in ("cascade", "full"):
        params, config = _networks(params, config)
    images, networks = (fixed, moving), (params, config)
    field, certificate = _deformation(clock, images, lungs, matrix, method, networks)
    error = None
    if uncertainty:
        with clock.stage("uncertainty"):
            images, masks = (moving, fixed), (lungs[1], lungs[0])
            way_back = np.linalg.inv(matrix)
            back, _ = _deformation(_Clock(), images, masks, way_back, method, networks)
            error = inverse_consistency(field, back)

    summary = {
        "method": method,
        "settings": {
            "fixed_mask": "found" if fixed_mask is None else "given",
            "moving_mask": "found" if moving_mask is None else "given",
            "network": None if config is None else dataclasses.asdict(config),
            "weights": None if params is None else weights_digest(params),
        },
        "prealignment": stage,
        "prealignment_matrix": matrix.tolist(),
        "fixed_grid": str(fixed.grid),
        "moving_grid": str(moving.grid),
        "certificate": certificate,
        "seconds": clock.seconds,
        "versions": versions(),
    }
    registration = Registration(fixed, moving, field, lungs[0], matrix, summary, error)
    with clock.stage("measures"):
        summary.update(registration.measures())
    return registration


def match_volumes(
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
) -> Landmarks:
    """Thousands of points in the fixed lungs and where they lie in the moving image.

    Lung masks and linear prealignment as in `register_volumes`, then `engine.keypoints`.

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
    lungs = lungs_of_pair(fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask)
    matrix, _ = prealign(fixed, moving, *lungs)
    points = find_keypoints_mm(fixed, moving, *lungs, matrix)
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
            u = _cascade_stage(*images, masks[0], frame, matrix, *networks)
    if method in ("classical", "full"):
        with clock.stage("refinement"):
            fine = lung_frame(*masks, matrix, shape=FRAME)
            start = field_on_grid(u, frame, fine).to_voxels() if method == "full" else None
            frame, u = fine, _refine_stage(*images, masks[0], fine, matrix, start)
    with clock.stage("certificate"):
        field = field_on_grid(u, frame, images[0].grid, matrix=matrix)
        return _certified(field)


def _cascade_stage(fixed, moving, fixed_mask, frame, matrix, params, config) -> Displacement:
    """Displacement by the networks, continued outside of the lungs, in voxels of the frame."""
    *pair, lungs = pair_to_frame(fixed, moving, fixed_mask, frame, matrix)
    u = jax.block_until_ready(_register(*pair, params=params, config=config))
    return continue_outside(u, lungs, spacing_mm=frame.spacing_mm)


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
    pair_and_lungs = pair_to_frame(fixed, moving, fixed_mask, frame, matrix)
    u = refine(*pair_and_lungs, spacing_mm=frame.spacing_mm, initial=start)
    return jax.block_until_ready(u)


def _certified(field: DisplacementField) -> tuple[DisplacementField, dict[str, Any]]:
    """The field, repaired where a cell could fold, and what the repair did."""
    repaired, report = repair(field.to_voxels(), spacing_mm=field.spacing_mm)
    if report.cells:
        field = DisplacementField.from_voxels(repaired, field.affine)
    return field, report._asdict()
