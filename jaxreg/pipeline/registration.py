"""Registration of a pair: of arrays (`register`), of images in the world (`register_volumes`)."""

import dataclasses
import functools
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxreg.config import (
    NetworkConfig,
    RegistrationConfig,
    method_name,
    with_method,
)
from jaxreg.geometry.volume import Volume, resample
from jaxreg.ops.deformation import compose
from jaxreg.ops.precision import in_32_bits
from jaxreg.ops.types import AnyArray, Displacement, Mask, Spacing
from jaxreg.pipeline.align import AlignedPair, align
from jaxreg.pipeline.certify import certified_on_grid
from jaxreg.pipeline.judge import judged
from jaxreg.pipeline.masks import masks_on_images
from jaxreg.pipeline.result import Registration
from jaxreg.pipeline.stages import (
    cascade_stage,
    network_displacement,
    optimiser_stage,
    prepare_optimiser,
)
from jaxreg.trust.findings import Finding

Params = Mapping[str, Any]


@in_32_bits
def register(
    fixed: Float[AnyArray, "..."],
    moving: Float[AnyArray, "..."],
    *,
    params: Params | None = None,
    config: NetworkConfig | None = None,
    mask: Mask | None = None,
    spacing_mm: Spacing = (1.0, 1.0, 1.0),
) -> Displacement:
    """Displacement that takes each voxel of the fixed image to the moving one: the cascade alone.

    A pure function of arrays, for use under `jax.jit`, `jax.vmap` and `jax.grad`. The images are
    resampled to the network grid and the field back to theirs (Hering et al. 2021, section 3.4).
    Best on images cropped to the lungs, axes along RAS; `register_volumes` sees to that.

    Args:
        fixed: HU, (X, Y, Z), any size.
        moving: HU, (X, Y, Z), on the same grid.
        params: of the networks, {"level_1": ..., ...}; None means those that ship with the package.
        config: of the networks, static under `jax.jit`; None means that of the shipped ones.
        mask: lungs of the fixed image, 0 to 1, (X, Y, Z), to which the comparison keeps; everything
            counts if None, which is less accurate.
        spacing_mm: voxel size along each axis.

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
    if params is None or config is None:
        from jaxreg.network.weights import load_named  # flax: only where networks take part

        shipped = load_named("lung")
        params = shipped[0] if params is None else params
        config = shipped[1] if config is None else config
    return network_displacement(params, fixed, moving, config, mask=mask, spacing_mm=spacing_mm)


class _Clock:
    """Seconds by stage; a stage lasts until the next one begins."""

    def __init__(self, progress: Callable[[str], None]):
        self.seconds: dict[str, float] = {}
        self._progress, self._stage, self._began = progress, "", 0.0

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] = round(now - self._began, 3)
        self._stage, self._began = stage, now
        if stage:
            self._progress(stage)


@in_32_bits
def register_volumes(
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    method: str | None = None,
    config: RegistrationConfig | None = None,
    params: Params | None = None,
    notes: Sequence[Finding] = (),
    progress: Callable[[str], None] = lambda stage: None,
) -> Registration:
    """Registers two images of any grid, orientation and field of view.

    Lung masks, linear prealignment, a grid around the lungs, networks, optimiser, the field on the
    fixed image's own grid, certificate against folds; the settings say which of them take part.

    Args:
        fixed: CT in HU.
        moving: CT in HU.
        fixed_mask: lungs, nonzero inside; found automatically if None. On another grid than
            `fixed`, each voxel takes the nearest label, with a warning "other-grid".
        moving_mask: the same for `moving`.
        method: which stages take part, whatever `config` says: "initial" (none), "affine",
            "cascade" (networks alone), "classical" (optimiser alone) or "full" (networks, then
            optimiser). None: those of `config`; without one "classical", or "full" with `params`.
        config: settings; the defaults if None.
        params: of the networks, whose settings are `config.network.architecture`, or those of the
            shipped ones if that is None. If `params` is None, `config.network.weights` are loaded.
        notes: what is doubtful about the files; they come first among the warnings.
        progress: called with the name of each stage when it begins.

    Returns:
        The registration; its field is on the grid of `fixed`, or on a coarser one between the same
        corners (`config.field_spacing_mm`). Its summary holds all settings.

    Raises:
        ValueError: an image is no CT in HU, a mask is empty or beside its image, no lungs are
            found, or a setting is not allowed.
    """
    if config is None:
        config = RegistrationConfig()
        method = method or ("classical" if params is None else "full")
    if method is not None:
        config = with_method(config, method)
    networks = _networks(config, params)
    clock = _Clock(progress)
    (fixed_mask, moving_mask), doubts = masks_on_images((fixed, moving), (fixed_mask, moving_mask))
    pair = align(
        fixed,
        moving,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        config=config,
        progress=clock,
        prepare=functools.partial(prepare_optimiser, config=config.optimiser),
    )
    u = _deformation(pair, config, networks, clock)
    error = None
    if config.inverse_consistency:
        clock("inverse consistency")
        error = _inverse_consistency(pair, u, config, networks, fixed)
    clock("certificate")
    field, certificate = certified_on_grid(u, pair.grid, fixed.grid, config, matrix=pair.matrix)
    summary = _summary(fixed, moving, pair, config, networks, certificate)
    summary["masks"] = {
        "fixed": "found" if fixed_mask is None else "given",
        "moving": "found" if moving_mask is None else "given",
    }
    unjudged = Registration(
        fixed, moving, field, pair.masks[0], pair.matrix, summary, inverse_consistency=error
    )
    registration = judged(
        unjudged, pair, u, labels=fixed_mask, config=config, notes=(*notes, *doubts), progress=clock
    )
    clock("")
    registration.summary["seconds"] = clock.seconds
    return registration


def versions() -> dict[str, str]:
    """Versions of this package, of JAX and of Python, and the device, for the records."""
    return {
        "jaxreg": metadata.version("jaxreg"),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }


def _networks(
    config: RegistrationConfig, params: Params | None
) -> tuple[Params, NetworkConfig] | None:
    """Parameters of the networks and their settings, where they take part."""
    if not config.network.enabled:
        return None
    from jaxreg.network.weights import load_named

    if params is not None:
        return params, config.network.architecture or load_named("lung")[1]
    return load_named(config.network.weights)


def _deformation(pair: AlignedPair, config, networks, clock) -> Displacement:
    """Displacement on the grid of the pair, by the stages that take part."""
    u = None
    if networks is not None:
        clock("cascade")
        params, architecture = networks
        u = jax.block_until_ready(cascade_stage(pair, params, architecture, config.optimiser))
    if config.optimiser.enabled:
        clock("optimiser")
        u = optimiser_stage(pair, u, config.optimiser)
    return np.zeros((*pair.grid.shape, 3), np.float32) if u is None else u


def _inverse_consistency(pair, u, config, networks, fixed: Volume) -> Volume:
    """Inverse-consistency error |T_back(T(x)) - x| in mm on the fixed grid.

    Both directions are registered on one grid after one prealignment, which cancels.
    """
    back = _deformation(pair.swapped(), config, networks, lambda stage: None)
    residual = np.asarray(compose(back, u)) * np.array(pair.spacing_mm, np.float32)
    error = Volume(np.linalg.norm(residual, axis=-1), pair.grid.affine)
    return resample(error, fixed.affine, fixed.shape)


def _summary(fixed, moving, pair, config, networks, certificate) -> dict[str, Any]:
    digest = None
    if networks is not None:
        from jaxreg.network.weights import weights_digest

        digest = weights_digest(networks[0])
    return {
        "method": method_name(config),
        "config": dataclasses.asdict(config),
        "weights": digest,
        "prealignment": pair.prealignment,
        "prealignment_matrix": pair.matrix.tolist(),
        "fixed_grid": fixed.grid.document(),
        "moving_grid": moving.grid.document(),
        "certificate": certificate,
        "versions": versions(),
    }
