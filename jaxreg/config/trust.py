"""Settings of what is doubted of a pair and of its registration."""

import dataclasses

from jaxreg.config.checks import check, grid_shape, ordered, positive, tuples


@dataclasses.dataclass(frozen=True)
class TrustConfig:
    """What is doubted of a pair and of its registration (`jaxreg.trust`).

    Attributes:
        shape: voxels (X, Y, Z) that the lung grid is brought to for this where `grid.shape` is not
            given: correlations depend on the size of the voxels.
        window_hu: values outside are clipped before the images are compared.
        radius: of the windows of standardisation and correlation, voxels of half of the lung grid.
        noise_hu: standard deviation of noise there.
        quality: intercept and coefficients of the logistic model of "the error is below 2 mm":
            correlation in the lung times the fraction shown, |log det|, log of the uncertainty.
        least_agreement: correlation in a lung below which the images hardly agree.
        least_quality: mean of the quality in a lung, divided by the fraction of it that the moving
            image shows, below which there is a warning.
        least_shown: fraction of a lung of either image that the other shows, of what lies within
            its scan, below which there is a warning.
        most_cut: fraction of the lungs' surface at which a scan may end.
        orientation_gain: of the similarity by which another orientation must fit better.
        correlation_loss: of the correlation in the lungs that a registration may cost.
        lungs_ml: volumes of both lungs that a person can have.
        breath: factor by which a lung may grow or shrink by respiration.
        stretch: factors by which the prealignment may make the lungs wider or narrower from right
            to left, and deeper or flatter from front to back; respiration does less.
        largest_jump: of the field across a plane of the lungs, voxels of half of the lung grid
            (`jaxreg.trust.jumps`).
        beside_jump: factor of the quality near a larger one.
        least_compared: fraction of a lung that both images must show for a statement about it.
        fewest_voxels: of a mask; of fewer nothing is said.
    """

    shape: tuple[int, int, int] = (192, 160, 192)
    window_hu: tuple[float, float] = (-1000.0, 0.0)
    radius: int = 2
    noise_hu: float = 20.0
    quality: tuple[float, float, float, float] = (2.9, 3.8, -4.0, -4.0)
    least_agreement: float = 0.5
    least_quality: float = 0.7
    least_shown: float = 0.8
    most_cut: float = 0.02
    orientation_gain: float = 0.1
    correlation_loss: float = 0.05
    lungs_ml: tuple[float, float] = (100.0, 12_000.0)
    breath: float = 5.0
    stretch: tuple[float, float] = (1.15, 1.35)
    largest_jump: float = 1.3
    beside_jump: float = 0.7
    least_compared: float = 0.1
    fewest_voxels: int = 1000

    def __post_init__(self):
        """Refuses windows, shares and counts that say nothing."""
        tuples(self, "shape", "window_hu", "quality", "lungs_ml", "stretch")
        grid_shape("trust.shape", self.shape)
        ordered("trust.window_hu", self.window_hu)
        ordered("trust.lungs_ml", self.lungs_ml)
        positive(self, "radius", "noise_hu", "breath", "largest_jump", "fewest_voxels")
        check(
            len(self.stretch) == 2 and min(self.stretch) >= 1.0,
            "trust.stretch",
            "two factors of at least 1",
            self.stretch,
            "Use (1.15, 1.35).",
        )
        for name in ("beside_jump", "least_quality", "least_shown", "least_compared", "most_cut"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"trust.{name}", "0 to 1", value, "Use a fraction.")
        check(
            len(self.quality) == 4,
            "trust.quality",
            "an intercept and three coefficients",
            self.quality,
            "Use (2.9, 3.8, -4.0, -4.0).",
        )
