"""A pair brought together: lungs, linear prealignment, both images on one grid around the lungs.

Whatever orientation, size and field of view the files have ends here: every later stage sees the
lungs in one pose, on one grid.
"""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxreg.config import LungGridConfig, RegistrationConfig
from jaxreg.engine.prealignment import prealign
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.lung_grid import (
    grid_around_boxes,
    grid_around_lungs,
    image_on_grid,
    labels_on_grid,
    lung_box,
)
from jaxreg.geometry.reduction import factors_to, reduced, reduced_labels
from jaxreg.geometry.volume import Volume, check_ct, require_same_grid, resample
from jaxreg.lungs.pair import lungs_of_pair
from jaxreg.ops.types import Shape

_NO_ENLARGEMENT = 1.001  # rounding


@dataclasses.dataclass(frozen=True, eq=False)
class AlignedPair:
    """Two images on one grid around the lungs of both, axes along RAS.

    Attributes:
        fixed: HU, (X, Y, Z), float32.
        moving: HU after the prealignment, (X, Y, Z), float32.
        fixed_lungs: labels of the lungs, 0 outside, (X, Y, Z).
        moving_lungs: the same of the moving image, after the prealignment.
        grid: where the voxels lie in the world of the fixed image.
        matrix: (4, 4), the prealignment, fixed world to moving world, RAS mm.
        prealignment: the stage that gave the matrix, "none" where it took no part.
        images: fixed and moving image as they were worked on: those with fine voxels are reduced
            (`LungGridConfig.working_mm`).
        masks: lungs on the grids of `images`.
    """

    fixed: np.ndarray
    moving: np.ndarray
    fixed_lungs: np.ndarray
    moving_lungs: np.ndarray
    grid: Grid
    matrix: np.ndarray
    prealignment: str
    images: tuple[Volume, Volume]
    masks: tuple[Volume, Volume]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size of the grid along each axis, mm."""
        return self.grid.spacing_mm

    def resized(self, shape: tuple[int, int, int]) -> "AlignedPair":
        """The pair on a grid of another shape over the same extent."""
        if shape == self.grid.shape:
            return self
        grid = self.grid.reshaped(shape)
        images, labels = ("fixed", "moving"), ("fixed_lungs", "moving_lungs")
        arrays = {
            name: resample(
                Volume(getattr(self, name), self.grid.affine), grid.affine, shape, order=order
            ).data
            for names, order in ((images, 1), (labels, 0))
            for name in names
        }
        return dataclasses.replace(self, grid=grid, **arrays)

    def swapped(self) -> "AlignedPair":
        """The pair for the registration in the other direction, on the same grid."""
        return dataclasses.replace(
            self,
            fixed=self.moving,
            moving=self.fixed,
            fixed_lungs=self.moving_lungs,
            moving_lungs=self.fixed_lungs,
        )


def align(
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    matrix: np.ndarray | None = None,
    config: RegistrationConfig = RegistrationConfig(),
    progress: Callable[[str], None] = lambda stage: None,
    prepare: Callable[[Shape], None] = lambda shape: None,
) -> AlignedPair:
    """Lungs, prealignment and common grid of a pair, each worked out once.

    Args:
        fixed: CT in HU.
        moving: CT in HU, on any grid.
        fixed_mask: lungs or lobes, nonzero inside, on the grid of `fixed`; found if None.
        moving_mask: the same for `moving`.
        matrix: (4, 4), fixed world to moving world, RAS mm, where it is known; found if None.
        config: settings.
        progress: called with the name of each stage when it begins.
        prepare: called in a thread when the prealignment begins, which needs one core, with the
            shape that the grid will probably have; it is not waited for.

    Returns:
        The pair.

    Raises:
        ValueError: an image is no CT in HU, a mask is empty or on another grid, or no lungs are
            found.
    """
    factor = _enlargement((fixed_mask, moving_mask), config.grid)
    if factor > _NO_ENLARGEMENT:
        check_ct(fixed, "fixed")
        check_ct(moving, "moving")
        large = align(
            _scaled(fixed, factor),
            _scaled(moving, factor),
            fixed_mask=None if fixed_mask is None else _scaled(fixed_mask, factor),
            moving_mask=None if moving_mask is None else _scaled(moving_mask, factor),
            matrix=None if matrix is None else _in_scaled_world(matrix, factor),
            config=config,
            progress=progress,
            prepare=prepare,
        )
        return _scaled_pair(large, 1 / factor)
    progress("masks")
    fixed, fixed_mask = working_image(fixed, fixed_mask, "fixed", config.grid)
    moving, moving_mask = working_image(moving, moving_mask, "moving", config.grid)
    masks = lungs_of_pair(
        fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask, config=config.lungs
    )
    voxels_mm = [image.spacing_mm for image in (fixed, moving)]
    stage = "none" if matrix is None else "given"
    if matrix is None and config.prealignment.enabled:
        progress("prealignment")
        beside = ThreadPoolExecutor(1)
        beside.submit(prepare, _probable_shape(masks, voxels_mm, config.grid))
        beside.shutdown(wait=False)  # it ends by itself
        matrix, stage = prealign(fixed, moving, *masks, config=config.prealignment)
    matrix = np.eye(4) if matrix is None else matrix
    progress("resampling")
    grid = grid_around_lungs(*masks, matrix, voxels_mm=voxels_mm, config=config.grid)
    with ThreadPoolExecutor() as pool:  # scipy holds no lock while it samples
        tasks = (
            pool.submit(image_on_grid, fixed, grid),
            pool.submit(image_on_grid, moving, grid, matrix=matrix),
            pool.submit(labels_on_grid, masks[0], grid),
            pool.submit(labels_on_grid, masks[1], grid, matrix=matrix),
        )
        images = [task.result() for task in tasks]
    return AlignedPair(
        *images,
        grid=grid,
        matrix=matrix,
        prealignment=stage,
        images=(fixed, moving),
        masks=masks,
    )


def _probable_shape(masks, voxels_mm, config: LungGridConfig) -> Shape:
    """That of the grid if the prealignment does no more than bring the lungs' boxes together."""
    fixed_box, moving_box = map(lung_box, masks)
    shift = np.mean(fixed_box, axis=0) - np.mean(moving_box, axis=0)
    boxes = fixed_box, moving_box + shift
    return grid_around_boxes(boxes, voxels_mm=voxels_mm, config=config).shape


def _enlargement(masks: tuple[Volume | None, Volume | None], config: LungGridConfig) -> float:
    """By how much the smaller lungs of those given must grow to the least size, at least 1."""
    sizes_mm = [
        np.cbrt(np.count_nonzero(mask.data > 0) * abs(np.linalg.det(mask.affine[:3, :3])))
        for mask in masks
        if mask is not None
    ]
    return max([1.0, *(config.smallest_mm / mm for mm in sizes_mm if mm > 0)])


def _scaled(volume: Volume, factor: float) -> Volume:
    return Volume(volume.data, np.diag([factor, factor, factor, 1.0]) @ volume.affine)


def _in_scaled_world(matrix: np.ndarray, factor: float) -> np.ndarray:
    """A map of the world in a world that is larger by a factor."""
    stretch = np.diag([factor, factor, factor, 1.0])
    return stretch @ matrix @ np.linalg.inv(stretch)


def _scaled_pair(pair: AlignedPair, factor: float) -> AlignedPair:
    stretch = np.diag([factor, factor, factor, 1.0])
    fixed, moving = (_scaled(image, factor) for image in pair.images)
    fixed_mask, moving_mask = (_scaled(mask, factor) for mask in pair.masks)
    return dataclasses.replace(
        pair,
        grid=Grid(pair.grid.shape, stretch @ pair.grid.affine),
        matrix=_in_scaled_world(pair.matrix, factor),
        images=(fixed, moving),
        masks=(fixed_mask, moving_mask),
    )


def working_image(
    image: Volume, mask: Volume | None, name: str, config: LungGridConfig
) -> tuple[Volume, Volume | None]:
    """An image and its mask on the grid on which they are worked on.

    Args:
        image: CT in HU.
        mask: on its grid, or None.
        name: of the image, for messages.
        config: settings.

    Returns:
        Both, reduced to what the lung grid needs.

    Raises:
        ValueError: the image is no CT in HU, or the mask is on another grid.
    """
    check_ct(image, name)
    if mask is not None:
        require_same_grid(image, mask, (name, f"{name}_mask"))
    factors = working_factors(image.grid, config)
    return reduced(image, factors), None if mask is None else reduced_labels(mask, factors)


def working_factors(grid: Grid, config: LungGridConfig) -> tuple[int, int, int]:
    """By how many voxels along each axis an image is reduced before it is registered.

    Args:
        grid: of the image.
        config: voxel size wanted, and shape of the lung grid.

    Returns:
        Factors, at least 1.
    """
    least = max(config.shape or (config.working_voxels,))
    return factors_to(grid, config.working_mm, least=least)
