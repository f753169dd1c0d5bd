"""Settings of the random changes of prepared pairs."""

import dataclasses

from jaxreg.config.checks import check


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """How a prepared pair is changed in each step (`jaxreg.training.augmentation`).

    Attributes:
        linear: sd of the entries of the linear part of the affine map of both images.
        residual_linear: the same of the moving image's own map.
        residual_shift: sd of its translation, as a fraction of the grid.
        deformation: of the moving image; largest sd of its control points, as a fraction of the
            grid.
        control_points: of the deformation along each axis.
        contrast: sd of the intensity scale about -1000 HU.
        offset_hu: sd of the intensity shift.
        noise_hu: largest sd of the noise in voxels of 27 mm^3; that of larger ones averages out.
        inverse_steps: of the fixed-point iteration that moves keypoints; each makes what is left
            about five times smaller.
    """

    linear: float = 0.08
    residual_linear: float = 0.01
    residual_shift: float = 0.003
    deformation: float = 0.015
    control_points: int = 5
    contrast: float = 0.05
    offset_hu: float = 10.0
    noise_hu: float = 40.0
    inverse_steps: int = 12

    def __post_init__(self):
        """Refuses negative sizes, and numbers of points and steps that make no map."""
        sizes = ("linear", "residual_linear", "residual_shift", "deformation", "contrast")
        for name in (*sizes, "offset_hu", "noise_hu"):
            check(getattr(self, name) >= 0, name, "a number >= 0", getattr(self, name), "Use 0.")
        for name, least in (("control_points", 2), ("inverse_steps", 1)):
            value = getattr(self, name)
            check(value >= least, name, f"at least {least}", value, "Leave it out for the default.")
