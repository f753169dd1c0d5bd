"""How the phantom breathes: one map for what fills the chest, one for its wall.

Anatomical coordinates (x, y, z) in mm: RAS axes, z = 0 at the lowest recess of the inhaled lungs.
The thoracic cavity is a tube: at height z its cross-section is the fixed curve
|xi|^n + |eta|^n = 1 of the relative coordinates

    xi = x / rx(z),    eta = (y - cy(z)) / ry(z).

From end-inhale to end-exhale

    wall  W: (x, y, z) -> (x (1 - a(z)), y_s + (y - y_s) (1 - b(z)), z)      chest-wall expansion
    slide K: (xi, eta, z) -> (xi + g_x, eta + g_y, z + s(xi, eta, z) + g_z)   cranio-caudal motion

and the content (lungs, heart, liver) follows W after K, the wall (ribs, spine, skin) W alone. g_x
and g_y vanish on the cavity's surface, so K maps that surface onto itself along itself: the content
slides tangentially against the wall, and no gap can open between them.
"""

import dataclasses

import numpy as np
from scipy.interpolate import CubicSpline

# Mean superior displacement, mm, end-inhale to end-exhale, by relative height in the lung (10 bins,
# base first) of DIR-Lab 4DCT cases 1-5, and the change over the lung box from anterior to posterior
# relative to the mean. From the landmark statistics (DIR-QA pairs, Fu et al. 2019; DIR-Lab,
# Castillo et al. 2009) in `breathing_motion.json` of the development data: cases.*.by_height[].mean
# and cases.*.linear_model.
SUPERIOR_BY_HEIGHT_MM = np.array(
    [
        [7.95, 6.49, 4.88, 3.20, 2.57, 2.15, 1.36, 1.09, 0.91, 0.22],
        [11.56, 10.36, 7.89, 6.15, 5.00, 3.20, 1.84, 1.09, 0.48, 0.04],
        [10.26, 8.78, 7.81, 7.85, 6.67, 5.01, 3.57, 2.58, 1.75, 0.74],
        [13.33, 13.29, 13.41, 12.20, 8.10, 7.41, 5.05, 3.42, 2.27, 1.57],
        [13.32, 12.99, 12.00, 5.79, 5.20, 3.65, 2.84, 2.00, 1.05, 0.20],
    ]
)
POSTERIOR_GAIN = np.array([1.70, 2.83, 2.46, 1.18, 1.74])

# the landmarks that were measured do not reach the recesses: their box starts above the base
_KNOTS = np.concatenate([[-1.0, -0.5, -0.1], 0.1 + 0.095 * np.arange(10), [1.1, 1.3, 2.0]])
_MOST_SHRINKAGE = 0.5
_WAVES = 12
_NEWTON_STEPS = 7


@dataclasses.dataclass(frozen=True, eq=False)
class Cavity:
    """The thoracic cavity as a tube of varying width (module docstring).

    Attributes:
        height_mm: from the lowest recess to the apex of the lungs.
        exponent: n of the cross-section.
        profile: rx, ry, cy in mm as a function of z / height.
    """

    height_mm: float
    exponent: float
    profile: CubicSpline

    def relative(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (xi, eta), each (...), of anatomical points (..., 3)."""
        rx, ry, cy = np.moveaxis(self.profile(points[..., 2] / self.height_mm), -1, 0)
        return points[..., 0] / rx, (points[..., 1] - cy) / ry

    def absolute(self, xi: np.ndarray, eta: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Returns anatomical points of relative coordinates.

        Args:
            xi: x over the half width, (...).
            eta: y from the axis over the half depth, (...).
            z: height, mm, (...).

        Returns:
            Points, mm, (..., 3).
        """
        rx, ry, cy = np.moveaxis(self.profile(z / self.height_mm), -1, 0)
        return np.stack([xi * rx, cy + eta * ry, z], axis=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Motion:
    """The maps from the inhaled to the exhaled state.

    Attributes:
        cavity: the tube along which the content slides.
        amplitude_mm: greatest s.
        height: s by z / height of the cavity, 1 at the base.
        posterior_rate: kappa; s grows by exp(kappa) from the front to the back.
        side: s of the right lung exceeds that of the left by this fraction, twice.
        wall: (lateral, antero-posterior) shrinkage of the wall.
        drift_mm: mean of (g_x, g_y), mm.
        waves: wave vectors (K, 3) in rad/mm, phases (K,), amplitudes (K, 3) in mm of the random g.
    """

    cavity: Cavity
    amplitude_mm: float
    height: CubicSpline
    posterior_rate: float
    side: float
    wall: tuple[float, float]
    drift_mm: tuple[float, float]
    waves: tuple[np.ndarray, np.ndarray, np.ndarray]

    def content(self, points: np.ndarray) -> np.ndarray:
        """Returns where content at inhaled points (..., 3) lies after exhaling."""
        xi, eta = self.cavity.relative(points)
        g_x, g_y, g_z = self._random(xi, eta, points)
        z = points[..., 2] + self.superior_mm(xi, eta, points[..., 2]) + g_z
        return self.wall_map(self.cavity.absolute(xi + g_x, eta + g_y, z))

    def content_inverse(self, points: np.ndarray) -> np.ndarray:
        """Returns the inhaled points of content found at `points` (..., 3) after exhaling."""
        target = self.wall_inverse(points)
        xi_target, eta_target = self.cavity.relative(target)
        xi, eta, z = xi_target, eta_target, target[..., 2]
        for _ in range(_NEWTON_STEPS):
            g_x, g_y, g_z = self._random(xi, eta, self.cavity.absolute(xi, eta, z))
            slope = self.superior_mm(xi, eta, z, derivative=1) / self.cavity.height_mm
            excess = z + self.superior_mm(xi, eta, z) + g_z - target[..., 2]
            xi, eta, z = xi_target - g_x, eta_target - g_y, z - excess / (1.0 + slope)
        return self.cavity.absolute(xi, eta, z)

    def wall_map(self, points: np.ndarray) -> np.ndarray:
        """Returns W of points (..., 3)."""
        return self._scale_wall(points, inverse=False)

    def wall_inverse(self, points: np.ndarray) -> np.ndarray:
        """Returns the inverse of W at points (..., 3); W keeps z, so it is in closed form."""
        return self._scale_wall(points, inverse=True)

    def superior_mm(
        self, xi: np.ndarray, eta: np.ndarray, z: np.ndarray, *, derivative: int = 0
    ) -> np.ndarray:
        """Returns s, or a derivative of it, at relative coordinates.

        Args:
            xi: x over the half width, (...).
            eta: y from the axis over the half depth, (...).
            z: height, mm, (...).
            derivative: order of the derivative by z / height.

        Returns:
            Values, mm, (...).
        """
        # about eta inside the cavity, levelling off outside so that the map stays free of folds
        bounded = eta / (1.0 + (eta / 1.15) ** 6) ** (1.0 / 6.0)
        front_to_back = np.exp(-0.5 * self.posterior_rate * bounded)
        across = 1.0 + self.side * np.tanh(2.0 * xi) - 0.25 * np.exp(-((xi / 0.35) ** 2))
        profile = self.height(z / self.cavity.height_mm, derivative)
        return self.amplitude_mm * profile * front_to_back * across

    def _random(self, xi, eta, points):
        """Returns g_x and g_y in relative units and g_z in mm; the first two vanish at the wall."""
        vectors, phases, amplitudes = self.waves
        g = np.cos(points @ vectors.T + phases) @ amplitudes
        n = self.cavity.exponent
        window = np.maximum(1.0 - np.abs(xi) ** n - np.abs(eta) ** n, 0.0) ** 3
        rx, ry, _ = np.moveaxis(self.cavity.profile(points[..., 2] / self.cavity.height_mm), -1, 0)
        g_x = window * (g[..., 0] + self.drift_mm[0]) / rx
        g_y = window * (g[..., 1] + self.drift_mm[1]) / ry
        return g_x, g_y, g[..., 2]

    def _scale_wall(self, points, *, inverse):
        relative_height = points[..., 2] / self.cavity.height_mm
        taper = np.exp(-(((relative_height - 0.35) / 0.5) ** 2))
        lateral, depth = (1.0 - fraction * taper for fraction in self.wall)
        if inverse:
            lateral, depth = 1.0 / lateral, 1.0 / depth
        _, ry, cy = self.cavity.profile(0.4)
        y_spine = cy - ry
        x, y, z = np.moveaxis(points, -1, 0)
        return np.stack([x * lateral, y_spine + (y - y_spine) * depth, z], axis=-1)


def draw_motion(
    rng: np.random.Generator, cavity: Cavity, lung_points: np.ndarray, motion: str | int | float
) -> Motion:
    """Returns a random motion of a kind.

    Args:
        rng: source of randomness.
        cavity: the cavity of the subject.
        lung_points: (N, 3), points throughout the inhaled lungs, where s reaches its peak.
        motion: "4dct", "breath-hold", or the peak of s in mm.
    """
    fraction = rng.uniform()
    peak = {"4dct": 10.0 + 14.0 * fraction, "breath-hold": 20.0 + 30.0 * fraction}
    peak_mm = peak[motion] if isinstance(motion, str) else float(motion)
    depth = min(peak_mm / 40.0, 1.25)  # deeper breaths move the wall more ...
    deep = min(max(peak_mm - 15.0, 0.0) / 35.0, 1.0)  # ... and the lungs more evenly (COPDgene)
    wall = (rng.uniform(0.02, 0.06) * depth**1.5, rng.uniform(0.03, 0.15) * depth**1.5)
    detail_mm = rng.uniform(0.4, 1.1) * (0.6 + 0.4 * depth) * min(peak_mm / 4.0, 1.0)
    drift_mm = rng.normal([0.0, 0.5], [0.5, 0.5]) * min(peak_mm / 10.0, 1.5)
    drawn = Motion(
        cavity=cavity,
        amplitude_mm=1.0,
        height=_draw_height_profile(rng),
        posterior_rate=rng.uniform(POSTERIOR_GAIN.min(), POSTERIOR_GAIN.max()) * (1.0 - 0.6 * deep),
        side=rng.normal(0.0, 0.06),
        wall=wall,
        drift_mm=(float(drift_mm[0]), float(drift_mm[1])),
        waves=_draw_waves(rng, detail_mm),
    )
    xi, eta = cavity.relative(lung_points)
    greatest = drawn.superior_mm(xi, eta, lung_points[..., 2]).max()
    drawn = dataclasses.replace(drawn, amplitude_mm=peak_mm / greatest)
    return _without_folds(drawn, lung_points, peak_mm, least_ease=0.6 * deep)


def _without_folds(drawn, points, peak_mm, *, least_ease):
    """Returns the motion with its height profile eased until tissue shrinks by less than half."""
    xi, eta = drawn.cavity.relative(points)
    z = points[..., 2]
    for ease in np.linspace(least_ease, 1.0, 5):
        mixed = (1.0 - ease) * drawn.height(_KNOTS) + ease * np.interp(_KNOTS, [0.05, 1.05], [1, 0])
        eased = dataclasses.replace(drawn, height=CubicSpline(_KNOTS, mixed, bc_type="clamped"))
        scale = peak_mm / max(eased.superior_mm(xi, eta, z).max(), 1e-6)
        eased = dataclasses.replace(eased, amplitude_mm=eased.amplitude_mm * scale)
        slope = eased.superior_mm(xi, eta, z, derivative=1) / drawn.cavity.height_mm
        if slope.min() > -_MOST_SHRINKAGE:
            break
    return eased


def _draw_height_profile(rng):
    """Returns a random mixture of the measured profiles, constant below the lungs, zero above."""
    cases = SUPERIOR_BY_HEIGHT_MM / SUPERIOR_BY_HEIGHT_MM[:, :2].mean(axis=1, keepdims=True)
    bins = rng.dirichlet(np.full(len(cases), 0.8)) @ cases
    values = np.concatenate([[1.02, 1.02, 1.02], bins, [0.0, 0.0, 0.0]])
    return CubicSpline(_KNOTS, values, bc_type="clamped")


def _draw_waves(rng, detail_mm):
    """Returns waves of 45 to 140 mm length whose sum has an RMS of `detail_mm` per component."""
    directions = rng.normal(size=(_WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = rng.uniform(45.0, 140.0, size=_WAVES)
    amplitudes = rng.normal(size=(_WAVES, 3)) * (lengths / 90.0)[:, None]
    amplitudes *= detail_mm / np.sqrt((amplitudes**2).sum(axis=0) / 2.0)
    phases = rng.uniform(0.0, 2.0 * np.pi, size=_WAVES)
    return 2.0 * np.pi / lengths[:, None] * directions, phases, amplitudes
