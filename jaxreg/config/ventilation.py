"""Settings of the ventilation maps."""

import dataclasses

from jaxreg.config.checks import check

KERNELS = ("gaussian", "box")


@dataclasses.dataclass(frozen=True)
class VentilationConfig:
    """Ventilation from a registered pair (`jaxreg.metrics.ventilation`).

    Attributes:
        kernel: of the smoothing, one of KERNELS.
        smoothing_mm: full width at half maximum of the Gaussian, or edge of the box; 0 for none.
        rim_mm: voxels as near to the lungs' border, and those at it, take no part in mean
            densities, since they hold chest wall too; 0 for all voxels.
        mass_correction: whether densities are scaled to one tissue mass of the lungs in both
            images.
        least_air: air fraction; where the exhaled image has less, the change is divided by this.
        least_density: g/ml; where the inhaled image has less, this is its density.
        least_ratio: of volumes, moving to fixed, and its reciprocal the greatest.
        least_change: of the lungs' volume, as a fraction; below it the two states hardly differ.
        plausible_mass: least ratio of tissue masses, and its reciprocal the greatest, that blood
            explains.
        least_measured: fraction of the lungs that was measured; below it that is said.
    """

    kernel: str = "gaussian"
    smoothing_mm: float = 15.0
    rim_mm: float = 5.0
    mass_correction: bool = True
    least_air: float = 0.1
    least_density: float = 0.01
    least_ratio: float = 0.1
    least_change: float = 0.02
    plausible_mass: float = 0.85
    least_measured: float = 0.8

    def __post_init__(self):
        """Refuses kernels that do not exist, and lengths and fractions out of range."""
        check(self.kernel in KERNELS, "kernel", " or ".join(KERNELS), self.kernel, "Choose one.")
        check(
            0 <= self.smoothing_mm <= 100,
            "smoothing_mm",
            "0 (none) to 100 mm",
            self.smoothing_mm,
            "Use 15.",
        )
        check(0 <= self.rim_mm <= 20, "rim_mm", "0 to 20 mm", self.rim_mm, "Use 5.")
        fractions = ("least_air", "least_density", "least_ratio", "least_change", "plausible_mass")
        for name in (*fractions, "least_measured"):
            value = getattr(self, name)
            check(0 < value < 1, name, "a number between 0 and 1", value, "Leave it away.")
