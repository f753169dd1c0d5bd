"""The anatomy of the phantom: random thoraces as implicit surfaces, in Hounsfield units.

Anatomical coordinates (x, y, z) in mm: RAS axes, x = 0 in the midline, z = 0 at the lowest recess
of the inhaled lungs (`jaxreg.phantom.motion`). A surface is a function that is negative inside
and close to a distance in mm near its zero, so a voxel's fraction of a tissue follows from it.
Every function takes coordinates x, y, z that broadcast against one another.
"""

import dataclasses
from functools import cached_property
from typing import TypeAlias

import numpy as np
from scipy.interpolate import CubicSpline

from jaxreg.phantom.motion import Cavity

# z / height of the knots of the thorax, and there rx and ry relative to the widest, and cy relative
# to ry: the chest narrows and leans back towards the apex
_KNOTS = np.array([-1.0, -0.3, 0.0, 0.2, 0.4, 0.6, 0.75, 0.88, 1.0, 1.15, 1.5])
_RX = np.array([0.97, 0.99, 1.0, 1.0, 0.99, 0.95, 0.88, 0.78, 0.64, 0.52, 0.48])
_RY = np.array([0.95, 0.97, 1.0, 1.0, 0.98, 0.93, 0.84, 0.72, 0.58, 0.50, 0.48])
_CY = np.array([0.04, 0.04, 0.04, 0.02, -0.01, -0.07, -0.15, -0.25, -0.35, -0.42, -0.46])
# body: half width relative to rx + wall, half depth relative to ry + wall
_BODY_X = np.array([0.98, 0.98, 1.0, 1.0, 1.0, 1.0, 1.01, 1.03, 1.05, 0.88, 0.50])
_BODY_Y = np.array([0.96, 0.98, 1.0, 1.0, 0.99, 0.96, 0.93, 0.88, 0.78, 0.66, 0.56])


Three: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Thorax:
    """The shapes of one subject in the inhaled state.

    Attributes:
        cavity: inner surface of the chest wall.
        body: half width, half depth and centre (y) of the skin by z / height.
        dome_mm: height of the (right, left) dome of the diaphragm.
        heart: centre (3,) and half axes (3,) of the left heart.
        fissure: z at the back, slope dz/dy of the oblique fissure of the (right, left) lung, and
            z of the horizontal one: (2, 2) and a number.
        waves: wave vectors (K, 3), phases (K,) and weights (K,) of a smooth random function.
        fat_mm: thickness of the fat under the skin.
        rib_phase, rib_pitch_mm: position of the ribs along the spine.
    """

    cavity: Cavity
    body: CubicSpline
    dome_mm: tuple[float, float]
    heart: tuple[np.ndarray, np.ndarray]
    fissure: tuple[np.ndarray, float]
    waves: tuple[np.ndarray, np.ndarray, np.ndarray]
    fat_mm: float
    rib_phase: float
    rib_pitch_mm: float

    def bumps(self, x, y, z):
        """Returns a smooth random function of unit variance.

        Args:
            x: to the right, mm.
            y: to the front, mm.
            z: to the head, mm.

        Returns:
            Values without unit, of the shape of the coordinates.
        """
        total = 0.0
        for (kx, ky, kz), phase, weight in zip(*self.waves, strict=True):
            total = total + weight * np.cos(kx * x + ky * y + (kz * z + phase))
        return total

    @cached_property
    def hilum_mm(self) -> np.ndarray:
        """(2, 3): where bronchi and vessels enter the right and the left lung."""
        height = 0.55 * self.cavity.height_mm
        rx, ry, cy = self.cavity.profile(0.55)
        return np.array([[0.24 * rx, cy - 0.08 * ry, height], [-0.27 * rx, cy - 0.1 * ry, height]])


def smooth_max(a, b, width_mm):
    """Returns max(a, b) with the crease rounded.

    Args:
        a: array or number, mm.
        b: array or number, mm.
        width_mm: about the width of the rounding.

    Returns:
        Values, mm.
    """
    return 0.5 * (a + b + np.sqrt((a - b) ** 2 + width_mm**2))


def smooth_min(a, b, width_mm):
    """Returns min(a, b) with the crease rounded.

    Args:
        a: array or number, mm.
        b: array or number, mm.
        width_mm: about the width of the rounding.

    Returns:
        Values, mm.
    """
    return 0.5 * (a + b - np.sqrt((a - b) ** 2 + width_mm**2))


def ellipsoid(x, y, z, centre, radii):
    """Returns about the distance to an ellipsoid.

    Args:
        x: to the right, mm.
        y: to the front, mm.
        z: to the head, mm.
        centre: (3,), mm.
        radii: half axes, (3,), mm.

    Returns:
        Distances, mm, negative inside.
    """
    norm = np.sqrt(
        ((x - centre[0]) / radii[0]) ** 2
        + ((y - centre[1]) / radii[1]) ** 2
        + ((z - centre[2]) / radii[2]) ** 2
    )
    return (norm - 1.0) * min(radii)


def column(x, y, centre, radii):
    """Returns about the distance to an elliptic column along z.

    Args:
        x: to the right, mm.
        y: to the front, mm.
        centre: (x, y) of the axis, mm.
        radii: half axes along x and y, mm.

    Returns:
        Distances, mm, negative inside.
    """
    return (np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1]) - 1.0) * min(radii)


def tube_distance(x, y, rx, ry, cy, exponent):
    """Returns the radial distance to the wall of a tube along z.

    With q = (|xi|^n + |eta|^n)^(1/n) the wall lies at r / q from the axis: distance r (1 - 1/q).

    Args:
        x: to the right, mm.
        y: to the front, mm.
        rx: half width, mm.
        ry: half depth, mm.
        cy: y of the axis, mm.
        exponent: n, 2 for an ellipse.

    Returns:
        Distances, mm, negative inside.
    """
    xi, eta = np.abs(x / rx), np.abs((y - cy) / ry)
    q = (xi**exponent + eta**exponent) ** (1.0 / exponent) + 1e-6
    return np.hypot(x, y - cy) * (1.0 - 1.0 / q) + (q < 1e-3) * -50.0


def section(profile: CubicSpline, z, height_mm) -> Three:
    """Returns the three columns of a profile at some heights.

    Args:
        profile: three values by z / height.
        z: heights, mm.
        height_mm: of the cavity.

    Returns:
        The columns, float32, of the shape of z.
    """
    first, second, third = np.moveaxis(profile(z / height_mm).astype(np.float32), -1, 0)
    return first, second, third


def pick(points: Three, mask: np.ndarray) -> Three:
    """Returns the coordinates of the points in a mask.

    Args:
        points: x, y and z, of one shape.
        mask: of the same shape, bool.

    Returns:
        x, y and z, (N,).
    """
    x, y, z = points
    return x[mask], y[mask], z[mask]


@dataclasses.dataclass(frozen=True, eq=False)
class Content:
    """The surfaces of what fills the cavity, at inhaled points x, y, z; each made when asked for.

    Distances are negative inside; `minor` and `major` are positive above their fissure.
    """

    thorax: Thorax
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    @cached_property
    def section(self) -> Three:
        """Half width, half depth and centre (y) of the cavity at each point."""
        return section(self.thorax.cavity.profile, self.z, self.thorax.cavity.height_mm)

    @cached_property
    def bumps(self):
        """The subject's smooth random function."""
        return self.thorax.bumps(self.x, self.y, self.z)

    @cached_property
    def diaphragm(self):
        """z of the diaphragm over each point: two domes and the deep recesses around them."""
        rx, ry, cy = self.section
        xi, eta = self.x / rx, (self.y - cy) / ry
        side = np.clip(xi / 0.25, -1.0, 1.0)
        right = 0.5 + 0.75 * side - 0.25 * side**3  # 0 in the left, 1 in the right half
        domes = self.thorax.dome_mm
        top = right * domes[0] + (1.0 - right) * domes[1]
        u = (np.abs(xi) - 0.42) / 0.58
        v = (eta - 0.2) / 1.15
        lateral = np.where(u > 0.0, 62.0, 6.0) * np.abs(u) ** 2.2
        depth = np.where(v > 0.0, 35.0, 72.0) * v**2
        return top - (lateral + depth) * (top / 80.0) + 2.0 * self.bumps

    @cached_property
    def heart(self):
        """Distance to the heart: a left and a right ellipsoid, joined."""
        centre, radii = self.thorax.heart
        # the axis of the heart runs down, forward and to the left
        lean = self.x + 0.25 * (self.z - centre[2]) + 0.3 * (self.y - centre[1])
        left = ellipsoid(lean, self.y, self.z, centre, radii)
        right = centre + (36.0, -2.0, 12.0)
        right = ellipsoid(self.x, self.y, self.z, right, radii * (0.6, 0.75, 0.85))
        return smooth_min(left, right, 16.0)

    @cached_property
    def mediastinum(self):
        """Distance to everything between the lungs: heart, great vessels, spine, hila."""
        x, y, z, height = self.x, self.y, self.z, self.thorax.cavity.height_mm
        _, ry, cy = self.section
        t = z / height
        upper = column(x, y, (-2.0, cy + 0.08 * ry), (24.0, 36.0))
        upper = smooth_max(upper, (0.5 - t) * 60.0, 20.0)
        distance = smooth_min(self.heart, upper, 12.0)
        arch = ellipsoid(x, y, z, (-22.0, cy + 2.0, 0.74 * height), (17.0, 30.0, 17.0))
        distance = smooth_min(distance, arch, 8.0)
        back = cy - ry
        spine = column(x, y, (0.0, back + 14.0), (23.0, 25.0))
        oesophagus = column(x, y, (-3.0, back + 38.0), (13.0, 22.0))
        aorta = column(x, y, (-23.0, back + 37.0), (14.0, 14.0))
        aorta = smooth_max(aorta, (t - 0.74) * 100.0, 8.0)
        posterior = smooth_min(smooth_min(spine, aorta, 6.0), oesophagus, 8.0)
        distance = smooth_min(distance, posterior, 8.0)
        front = smooth_max(np.abs(x + 4.0) - 2.5, (cy + 0.2 * ry) - y, 10.0)
        distance = smooth_min(distance, front, 6.0)
        for centre in self.thorax.hilum_mm:
            hilum = ellipsoid(x, y, z, centre * (0.85, 1.0, 1.0), (15.0, 17.0, 26.0))
            distance = smooth_min(distance, hilum, 10.0)
        return distance

    @cached_property
    def lung(self):
        """Distance to the surface of the lungs."""
        cavity = self.thorax.cavity
        wall = tube_distance(self.x, self.y, *self.section, cavity.exponent) + 1.0
        _, ry, cy = cavity.profile(1.0)
        apex = (np.abs(self.x) - 43.0) ** 2 / 80.0 + (self.y - cy + 0.1 * ry) ** 2 / 110.0
        distance = smooth_max(wall, 0.8 * (self.diaphragm - self.z), 3.0)
        distance = smooth_max(distance, 0.8 * (apex + self.z - cavity.height_mm), 12.0)
        return smooth_max(distance, 1.5 * self.bumps - self.mediastinum, 5.0)

    @cached_property
    def major(self):
        """Distance to the oblique fissure."""
        oblique, _ = self.thorax.fissure
        start = np.where(self.x > 0.0, oblique[0, 0], oblique[1, 0])
        slope = np.where(self.x > 0.0, oblique[0, 1], oblique[1, 1])
        _, ry, cy = self.thorax.cavity.profile(0.4)
        eta = (self.y - cy) / ry
        bow = 8.0 * np.sin(np.pi * np.clip(eta, -1.0, 1.0))
        above = self.z - start - slope * ry * (eta + 1.0) + bow + self._folded
        return above / np.sqrt(1.0 + slope**2)

    @cached_property
    def minor(self):
        """Distance to the horizontal fissure of the right lung."""
        _, horizontal = self.thorax.fissure
        bow = 0.08 * self.y + 0.002 * (self.x - 60.0) ** 2
        return self.z - horizontal + bow - self._folded

    @cached_property
    def _folded(self):
        return 3.0 * self.thorax.bumps(1.7 * self.x, 1.7 * self.y, 1.7 * self.z)

    @cached_property
    def lobes(self):
        """Lobe of each point if it lies in a lung: 1..5 = RU, RM, RL, LU, LL, int8."""
        right = np.where(self.major < 0.0, 3, np.where(self.minor < 0.0, 2, 1))
        left = np.where(self.major < 0.0, 5, 4)
        return np.where(self.x > 0.0, right, left).astype(np.int8)


def draw_thorax(rng: np.random.Generator) -> Thorax:
    """Returns a random subject; sizes span small women to large men."""
    height = rng.uniform(210.0, 300.0)
    rx = 133.0 * (height / 250.0) ** 0.4 * rng.uniform(0.9, 1.1)
    ry = 97.0 * (height / 250.0) ** 0.4 * rng.uniform(0.88, 1.12)
    jitter = 1.0 + 0.02 * rng.normal(size=(3, len(_KNOTS)))
    cavity_profile = np.stack([rx * _RX * jitter[0], ry * _RY * jitter[1], ry * _CY * jitter[2]], 1)
    fat, muscle = 4.0 + 28.0 * rng.beta(1.5, 2.5), rng.uniform(16.0, 26.0)
    wall = fat + muscle
    body_x, body_y = (rx + wall) * _BODY_X, (ry + 4.0 + 0.8 * wall) * _BODY_Y
    body_profile = np.stack([body_x, body_y, cavity_profile[:, 2] - 0.06 * body_y], 1)
    dome = height * rng.uniform(0.20, 0.29)
    size = rng.uniform(0.88, 1.15)
    left_dome = dome - rng.uniform(0.0, 22.0)
    heart_radii = size * np.array([50.0, 47.0, 58.0]) * rng.uniform(0.92, 1.08, 3) * (rx / 133.0)
    heart_centre = np.array([-24.0, ry * 0.36, left_dome + rng.uniform(0.2, 0.5) * heart_radii[2]])
    back_z = height * rng.uniform(0.66, 0.8, size=2)
    slope = -(back_z - height * rng.uniform(-0.1, 0.08, size=2)) / (1.85 * ry)
    count = 9
    vectors = rng.normal(size=(count, 3))
    vectors *= (
        2.0
        * np.pi
        / rng.uniform(60.0, 160.0, (count, 1))
        / np.linalg.norm(vectors, axis=1, keepdims=True)
    )
    weights = rng.normal(size=count)
    weights *= np.sqrt(2.0 / (weights**2).sum())
    phases = rng.uniform(0.0, 2.0 * np.pi, count)
    as32 = tuple(a.astype(np.float32) for a in (vectors, phases, weights))
    return Thorax(
        cavity=Cavity(height, float(rng.uniform(2.1, 2.7)), CubicSpline(_KNOTS, cavity_profile)),
        body=CubicSpline(_KNOTS, body_profile),
        dome_mm=(dome, left_dome),
        heart=(heart_centre, heart_radii),
        fissure=(np.stack([back_z, slope], axis=1), height * rng.uniform(0.46, 0.57)),
        waves=(as32[0], as32[1], as32[2]),
        fat_mm=fat,
        rib_phase=rng.uniform(),
        rib_pitch_mm=height / rng.uniform(9.6, 10.8),
    )
