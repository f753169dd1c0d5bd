"""Ventilation measures of two CT images in respiratory motion: local change of volume and of air.

Everything lies on the grid of the fixed image. There a voxel holds volume 1; the moving image
shows its tissue in the volume det, the Jacobian determinant. `inhale` says which of both images
shows the lungs inhaled. Every measure is relative to the exhaled state and positive where
the lung takes up air on inhalation, whichever image is the fixed one:

    volume_jacobian  (V_in - V_ex) / V_ex                        ml/ml
    volume_hu        the same from densities: m rho_ex / rho_in - 1
    air_jacobian     (A_in - A_ex) / A_ex                        ml/ml of air
    air_hu           the same from densities: volume_hu / a_ex

V is the volume of a neighbourhood, A = a V its air, a = -HU / 1000 its air fraction and
rho = 1 + HU / 1000 its density in g/ml, that of air being 0 and that of tissue 1. Volumes, air and
densities are averaged over the neighbourhood first, and the ratios are taken of the averages.

The measures from densities assume that tissue keeps its mass, rho V. The mass of both lungs
does differ, by blood and by the calibration of the scans, so that the densities are scaled to one
mass: m = M_in / M_ex over the lungs.

References:
    volume_jacobian: Reinhardt et al. 2008, Med Image Anal 12(6), 752-763.
    air_hu: Guerrero et al. 2006, Phys Med Biol 51(4), 777-791, after Simon 2000, J Clin Monit
        Comput 16, 433-442: 1000 (HU_in - HU_ex) / (HU_ex (HU_in + 1000)), where HU_in is that of
        the mass-corrected image, after Castillo et al. 2010, Phys Med Biol 55(16), 4661-4685. There
        the correction is of first order, 1 - f with f = M_in / M_ex - 1; here it is M_ex / M_in.
    air_jacobian: Ding et al. 2012, Med Phys 39(8), 5084-5098, there the "specific air volume change
        by corrected Jacobian", SACJ.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from jaxreg.config import VentilationConfig
from jaxreg.geometry.reduction import block_affine, block_mean
from jaxreg.geometry.separable import interpolate
from jaxreg.ops.types import Spacing

Inhaled: TypeAlias = Literal["fixed", "moving"]
_Image: TypeAlias = Float[np.ndarray, "X Y Z"]
_Mask: TypeAlias = Bool[np.ndarray, "X Y Z"]

VOLUME, AIR = "ml/ml", "ml/ml of air"
UNITS = {
    "volume_jacobian": VOLUME,
    "volume_hu": VOLUME,
    "air_jacobian": AIR,
    "air_hu": AIR,
}
_FWHM = np.sqrt(8 * np.log(2))  # full width at half maximum of a Gaussian over its sigma
_REACH = 3.0  # sigmas, at which the Gaussian ends
_STEPS = 6  # voxels across a neighbourhood, at most twice as many
_LEAST_WEIGHT = 1e-3  # of the voxels that take part in a mean; else all of the mask do


class Masses(NamedTuple):
    """What both images hold within a mask.

    Attributes:
        volume: of the fixed and of the moving image, voxels of the fixed grid.
        air: the same of the air.
        tissue: the same of the tissue; volume less air.
    """

    volume: tuple[float, float]
    air: tuple[float, float]
    tissue: tuple[float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Measures:
    """Ventilation measures of a pair.

    Attributes:
        maps: by name, as in UNITS; (X, Y, Z), 0 outside of the mask.
        limited: by name, in how many voxels a limit of the settings stood in for a measured value.
        mass_ratio: tissue mass of the inhaled over that of the exhaled lungs, away from their rim.
    """

    maps: dict[str, np.ndarray]
    limited: dict[str, int]
    mass_ratio: float


def masses(
    fixed: Float[np.ndarray, "*shape"],
    warped: Float[np.ndarray, "*shape"],
    determinant: Float[np.ndarray, "*shape"],
) -> Masses:
    """Volume, air and tissue of some voxels in both images.

    Args:
        fixed: HU.
        warped: HU of the moving image at the same tissue.
        determinant: volume in the moving image over that in the fixed one.

    Returns:
        The sums.
    """
    volume = (float(fixed.size), float(determinant.sum(dtype=np.float64)))
    air = (
        float(-fixed.sum(dtype=np.float64) / 1000),
        float(-np.sum(warped * determinant, dtype=np.float64) / 1000),
    )
    return Masses(volume, air, (volume[0] - air[0], volume[1] - air[1]))


def inhaled_image(determinant: _Image, mask: _Mask) -> Inhaled:
    """Which image shows the lungs inhaled: the one in which they are larger.

    Args:
        determinant: Jacobian determinant of the map from fixed to moving, (X, Y, Z).
        mask: lungs of the fixed image, true inside, (X, Y, Z).

    Returns:
        "fixed" or "moving".
    """
    grown = np.mean(determinant[mask], dtype=np.float64) > 1
    return "moving" if grown else "fixed"


def ventilation_measures(
    determinant: _Image,
    fixed: _Image,
    warped: _Image,
    mask: _Mask,
    *,
    lungs: _Mask,
    inhale: Inhaled,
    spacing_mm: Spacing,
    config: VentilationConfig = VentilationConfig(),
) -> Measures:
    """The four measures of the module's docstring.

    Args:
        determinant: of the Jacobian, fixed to moving, (X, Y, Z).
        fixed: HU, (X, Y, Z).
        warped: HU of the moving image through the registration, (X, Y, Z).
        mask: where both were measured, true inside.
        lungs: lungs of the fixed image, true inside; `mask` lies within.
        inhale: which image is the inhaled one.
        spacing_mm: voxel size, (3,).
        config: settings.

    Returns:
        The maps, finite everywhere.
    """
    least = config.least_ratio
    ratio = np.clip(determinant, least, 1 / least)
    limited = {name: int(np.count_nonzero(mask & (ratio != determinant))) for name in UNITS}
    core = _core(mask, lungs, spacing_mm, config.rim_mm)
    mean = _Mean(mask, spacing_mm, config)
    density = _Mean(mask, spacing_mm, config, within=core)
    grown = mean(ratio)
    air = (-density(fixed) / 1000, -density(warped) / 1000)
    found = masses(fixed[core], warped[core], ratio[core])
    order = (0, 1) if inhale == "moving" else (1, 0)  # exhaled, then inhaled
    air_ex, air_in = (air[i] for i in order)
    mass_ex, mass_in = (found.tissue[i] for i in order)
    volume_ratio = grown if inhale == "moving" else 1 / np.where(mask, grown, 1)
    mass_ratio = mass_in / mass_ex if min(mass_in, mass_ex) > 0 else 1.0
    some_air = np.maximum(air_ex, config.least_air)
    some_density = np.maximum(1 - air_in, config.least_density)
    scale = mass_ratio if config.mass_correction else 1.0
    by_hu = scale * (1 - air_ex) / some_density - 1
    maps = {
        "volume_jacobian": volume_ratio - 1,
        "volume_hu": by_hu,
        "air_jacobian": (volume_ratio * air_in - air_ex) / some_air,
        "air_hu": by_hu / some_air,
    }
    little_air = int(np.count_nonzero(mask & (air_ex < config.least_air)))
    light = int(np.count_nonzero(mask & (1 - air_in < config.least_density)))
    limited["volume_hu"] = light
    limited["air_hu"] = light + little_air
    limited["air_jacobian"] += little_air
    maps = {name: np.where(mask, values, 0).astype(np.float32) for name, values in maps.items()}
    return Measures(maps, limited, mass_ratio)


def _core(mask, lungs, spacing_mm, rim_mm: float) -> np.ndarray:
    """The mask away from the border of the lungs; all of it where nothing would be left."""
    if rim_mm == 0:
        return mask
    padded = np.pad(lungs, 1)
    depth_mm = ndimage.distance_transform_edt(padded, sampling=np.asarray(spacing_mm, float))
    inner = (np.asarray(depth_mm) > rim_mm) & np.asarray(ndimage.binary_erosion(padded), bool)
    core = mask & inner[1:-1, 1:-1, 1:-1]
    return core if core.any() else mask


class _Mean:
    """Mean over the neighbourhood of each voxel of a mask, over voxels of the mask alone."""

    def __init__(self, mask, spacing_mm, config: VentilationConfig, *, within=None):
        self._mask, self._within = mask, mask if within is None else within
        self._smooth = _smoothing(spacing_mm, config)
        self._weight = self._smooth(self._within.astype(np.float32))
        self._few = mask & (self._weight < _LEAST_WEIGHT)
        self._all = self._smooth(mask.astype(np.float32)) if self._few.any() else None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        sums = self._smooth(np.where(self._within, image, np.float32(0)))
        found = sums / np.maximum(self._weight, _LEAST_WEIGHT)
        if self._all is None:
            return found
        sums = self._smooth(np.where(self._mask, image, np.float32(0)))
        return np.where(self._few, sums / np.maximum(self._all, _LEAST_WEIGHT), found)


def _smoothing(spacing_mm, config: VentilationConfig) -> Callable[[np.ndarray], np.ndarray]:
    """The kernel of the settings as a function of an image; 0 outside of the image.

    Voxels much finer than the kernel are first averaged in blocks, and the result is interpolated.
    """
    spacing, size_mm = np.asarray(spacing_mm, float), config.smoothing_mm
    if size_mm == 0:
        return lambda image: image
    factors = np.maximum(1, (size_mm / _STEPS / spacing).astype(int))
    kernel = _kernel(spacing * factors, config)
    if factors.max() == 1:
        return kernel
    lattice = np.linalg.inv(block_affine(np.eye(4), factors))

    def smooth(image: np.ndarray) -> np.ndarray:
        coarse = kernel(block_mean(image, factors))
        x, y, z = image.shape
        result = np.empty((x, y, z), np.float32)

        def store(planes: slice, values: np.ndarray) -> None:
            result[planes] = values[0]

        interpolate(coarse[None], lattice, (x, y, z), (0, 1, 2), store)
        return result

    return smooth


def _kernel(spacing: np.ndarray, config: VentilationConfig) -> Callable[[np.ndarray], np.ndarray]:
    if config.kernel == "box":
        size = np.maximum(1, 2 * np.rint((config.smoothing_mm / spacing - 1) / 2).astype(int) + 1)
        return lambda image: ndimage.uniform_filter(image, size.tolist(), mode="constant")
    sigma = config.smoothing_mm / _FWHM / spacing
    return lambda image: ndimage.gaussian_filter(image, sigma, mode="constant", truncate=_REACH)
