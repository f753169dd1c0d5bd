"""A series of phases, such as a 4DCT, each registered to one reference: motion over time.

All phases share one world, so there is no prealignment: the coarsest level of the optimiser sees
the whole respiratory motion. Every phase is registered by itself, on one lung grid around the
lungs of all; then the displacements of each point are smoothed over time (`jaxreg.ops.temporal`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from jaxreg.config import RegistrationConfig, with_method
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.lung_grid import (
    grid_around_boxes,
    image_on_grid,
    labels_on_grid,
    lung_box,
)
from jaxreg.geometry.reduction import reduced
from jaxreg.geometry.resampling import compose_fields, field_on_grid, invert_field
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.geometry.warping import warp_volume
from jaxreg.lungs.pair import lungs_of_image
from jaxreg.ops.precision import in_32_bits
from jaxreg.ops.temporal import smoothing_matrix
from jaxreg.pipeline.align import AlignedPair, working_factors, working_image
from jaxreg.pipeline.masks import masks_on_images
from jaxreg.pipeline.series_result import SeriesRegistration
from jaxreg.pipeline.stages import optimiser_stage
from jaxreg.trust.findings import Finding

_PLANES = 16  # smoothed over time at once


@in_32_bits
def register_series(
    phases: Sequence[Volume],
    *,
    reference: int | Literal["mean"] = 0,
    masks: Sequence[Volume] | None = None,
    names: Sequence[str] | None = None,
    config: RegistrationConfig | None = None,
    notes: Sequence[Finding] = (),
    progress: Callable[[str], None] = lambda stage: None,
) -> SeriesRegistration:
    """Registers the phases of one person to a reference, by the optimiser.

    Args:
        phases: CT in HU, in the order of time, in one world; at least two.
        reference: index of the phase that is the fixed image, or "mean": the position of each
            point averaged over all phases, and an image of it (Wolthaus et al. 2008, Med Phys
            35(9): mid-position).
        masks: lungs of each phase, nonzero inside; found if None. On another grid than the phase,
            each voxel takes the nearest label, with a warning "other-grid".
        names: of the phases, for the summary; their numbers if None.
        config: settings; the prealignment takes no part.
        notes: what is doubtful about the files; they come first among the warnings.
        progress: called with the name of each stage when it begins.

    Returns:
        The registration of all phases.

    Raises:
        ValueError: fewer than two phases, no such reference, as many masks or names as there are
            not phases, an image that is no CT in HU, or no lungs.
    """
    names = [f"{index:02d}" for index in range(len(phases))] if names is None else list(names)
    _check(phases, reference, masks, names)
    config = with_method(config or RegistrationConfig(), "classical")
    prealignment = dataclasses.replace(config.prealignment, enabled=False)
    config = dataclasses.replace(config, prealignment=prealignment)
    progress("masks")
    given, doubts = masks_on_images(
        phases,
        masks or [None] * len(phases),
        names=[f"masks[{k}]" for k in range(len(phases))],
        image_names=[f"phases[{k}]" for k in range(len(phases))],
    )
    images, lungs = _lungs_of_phases(phases, given, config)
    first = _nearest_to_mean_volume(lungs) if reference == "mean" else reference
    grid = grid_around_boxes(
        [lung_box(mask) for mask in lungs],
        voxels_mm=[image.spacing_mm for image in images],
        config=config.grid,
    )
    pairs = _aligned(images, lungs, first, grid)
    displacements = np.zeros((len(phases), *grid.shape, 3), np.float32)
    for index, pair in enumerate(pairs):
        if index != first:
            progress(f"phase {index + 1} of {len(phases)}")
            displacements[index] = optimiser_stage(pair, None, config.optimiser)
    _smooth(displacements, first, config)
    series = SeriesRegistration(
        tuple(phases),
        phases[first],
        first,
        tuple(names),
        tuple(pairs),
        displacements,
        config,
        (*notes, *doubts),
    )
    if reference == "mean":
        progress("mean position")
        series = _at_mean_position(series)
    return series


def _check(phases, reference, masks, names) -> None:
    count = len(phases)
    if count < 2:
        raise ValueError(
            f"phases: expected at least two images, got {count}. Give all phases, or one 4-D file."
        )
    if reference != "mean" and not 0 <= reference < count:
        raise ValueError(
            f"reference: expected 0 to {count - 1} or mean, got {reference}. Choose one of the "
            f"{count} phases."
        )
    for name, values in (("masks", masks), ("names", names)):
        if values is not None and len(values) != count:
            raise ValueError(
                f"{name}: expected {count}, one a phase, got {len(values)}. Give one for each."
            )


def _lungs_of_phases(phases, masks, config) -> tuple[list[Volume], list[Volume]]:
    """The phases as they are worked on, and their lungs, two at a time."""

    def of_one(index):
        name = f"phase {index}"
        image, mask = working_image(phases[index], masks[index], name, config.grid)
        return image, lungs_of_image(image, mask, name, config=config.lungs)

    with ThreadPoolExecutor(2) as pool:  # more would need the memory of as many
        images, lungs = zip(*pool.map(of_one, range(len(phases))), strict=True)
    return list(images), list(lungs)


def _nearest_to_mean_volume(lungs: Sequence[Volume]) -> int:
    """Index of the phase whose lungs are nearest to the mean volume: the least has to move."""
    volumes = [np.count_nonzero(m.data) * abs(np.linalg.det(m.affine[:3, :3])) for m in lungs]
    return int(np.argmin(np.abs(np.array(volumes) - np.mean(volumes))))


def _aligned(
    images: Sequence[Volume], lungs: Sequence[Volume], fixed: int, grid: Grid
) -> list[AlignedPair]:
    """The reference with each phase, on one grid."""
    on_grid = [image_on_grid(image, grid) for image in images]
    labels = [labels_on_grid(mask, grid) for mask in lungs]
    return [
        AlignedPair(
            fixed=on_grid[fixed],
            moving=on_grid[index],
            fixed_lungs=labels[fixed],
            moving_lungs=labels[index],
            grid=grid,
            matrix=np.eye(4),
            prealignment="none",
            images=(images[fixed], images[index]),
            masks=(lungs[fixed], lungs[index]),
        )
        for index in range(len(images))
    ]


def _smooth(displacements: np.ndarray, reference: int, config: RegistrationConfig) -> None:
    """Smooths (T, X, Y, Z, 3) over time, in place, some planes at a time."""
    matrix = smoothing_matrix(
        len(displacements),
        reference,
        weight=config.series.smoothness,
        cyclic=config.series.cyclic,
    ).astype(np.float32)
    for start in range(0, displacements.shape[1], _PLANES):
        part = displacements[:, start : start + _PLANES]
        part[...] = np.tensordot(matrix, part, axes=1)


def _at_mean_position(series: SeriesRegistration) -> SeriesRegistration:
    """The same motion seen from the mean position of each point.

    With T_t from the first reference to phase t and M their mean, T_t o M^-1 goes from the mean
    position to phase t.
    """
    assert series.reference is not None
    first = series.pairs[series.reference]
    grid = first.grid
    mean = DisplacementField.from_voxels(series.displacements.mean(axis=0), grid.affine)
    back, _ = invert_field(mean, grid)
    for index, u in enumerate(series.displacements):
        moved = compose_fields(DisplacementField.from_voxels(u, grid.affine), back)
        series.displacements[index] = moved.to_voxels()
    own = first.masks[0]
    on_own = field_on_grid(series.displacements[series.reference], grid, own.grid)
    lungs = warp_volume(own, on_own, fill=0, sampling="nearest")
    series = dataclasses.replace(series, reference=None)
    fixed = series.mean_image()
    small = reduced(fixed, working_factors(fixed.grid, series.config.grid))
    shared = {"fixed": image_on_grid(small, grid), "fixed_lungs": labels_on_grid(lungs, grid)}
    pairs = tuple(
        dataclasses.replace(
            pair, images=(small, pair.images[1]), masks=(lungs, pair.masks[1]), **shared
        )
        for pair in series.pairs
    )
    return dataclasses.replace(series, fixed=fixed, pairs=pairs)
