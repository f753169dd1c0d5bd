"""Local normalised cross-correlation as a sum of squares, for Gauss-Newton.

Within the window around a voxel let f and w be the fixed and the warped image, each less its mean
and divided by its standard deviation there. With the best local gain c = <f w> / <w w>, the mean of
(f - c w)^2 over the window is 1 - LNCC^2 (the "CC" of Avants et al. 2008, MedIA 12(1), eq. 5). Here
each voxel is standardised by the window around itself, once, so that the sum of squares needs no
sum over overlapping windows; box means cost the same for every size of window.
"""

from typing import NamedTuple

from jaxtyping import Float

from jaxreg.ops.filters import box_mean, image_gradient
from jaxreg.ops.types import AnyArray, Image


class Linearised(NamedTuple):
    """First-order model of the residual: r(v) = residual - slopes . v for a small step v.

    Attributes:
        residual: f - c w, (X, Y, Z), no unit, 0 where the images agree.
        slopes: c dw/dx along each axis, 1/mm, (3, X, Y, Z).
    """

    residual: Image
    slopes: Float[AnyArray, "3 X Y Z"]


def linearised_lncc(
    fixed: Image,
    warped: Image,
    *,
    radius: int,
    gain_floor: float,
    spacing_mm: Float[AnyArray, "3"],
) -> Linearised:
    """Residuals whose squares sum to 1 - LNCC^2, and their slopes for a step of the warp.

    Slopes are the mean of both images', which agree at the solution: a second-order step at the
    price of a first-order one, and half the noise (Malis 2004, ICRA, "ESM").

    Args:
        fixed: standardised, (X, Y, Z).
        warped: standardised, (X, Y, Z).
        radius: of the window, voxels.
        gain_floor: added to the mean square of a window, so that flat windows have gain 0.
        spacing_mm: of the grid, (3,).

    Returns:
        The first-order model.
    """
    power = box_mean(warped**2, radius=radius) + gain_floor
    gain = box_mean(fixed * warped, radius=radius) / power
    slopes = 0.5 * gain[None] * image_gradient(fixed + warped, spacing=spacing_mm)
    return Linearised(fixed - gain * warped, slopes)
