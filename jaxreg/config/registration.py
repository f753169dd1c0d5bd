"""Settings of a registration, by stage; the methods are presets of them.

Everything that changes a result and is not an image, a mask or a weight stands here. The settings
are hashable, so they can be static arguments of `jax.jit`.
"""

import dataclasses
import math

from jaxreg.config.checks import below_one_voxel, check, grid_shape, ordered, positive, tuples
from jaxreg.config.keypoints import KeypointConfig
from jaxreg.config.lungs import LungConfig
from jaxreg.config.network import NetworkConfig
from jaxreg.config.series import SeriesConfig
from jaxreg.config.trust import TrustConfig


@dataclasses.dataclass(frozen=True)
class PrealignmentConfig:
    """Linear prealignment (`jaxreg.engine.prealignment`).

    Attributes:
        enabled: whether it takes part; without it world coordinates are taken as they are.
        spacings_mm: voxel sizes, coarse to fine; images with larger voxels stay as they are.
        margin_mm: around the fixed lungs: chest wall, diaphragm and heart give contrast.
        window_hu: values outside are clipped to it.
        points: most voxels compared at a time.
        largest_rotation_rad: length of the rotation vector's components.
        largest_shift_mm: along each axis, beside the shift of the lungs' centroids.
        largest_log_scale: logarithm of the factor by which an axis may be longer or shorter.
        largest_shear: of two axes.
        remnant: logarithm of the ratio of lung volumes above which one lung counts as cut off.
        lopsided: logarithm of the ratio of both lungs' volume changes above which each lung is
            also fitted alone.
        window: voxels at the finest of `spacings_mm` across which tissue is compared to choose
            among these maps.
        noise_hu: standard deviation of noise; less local contrast counts as none.
        overlap_loss: Dice coefficient of the lungs that a stage may cost.
    """

    enabled: bool = True
    spacings_mm: tuple[float, ...] = (10.0, 6.0, 4.0)
    margin_mm: float = 10.0
    window_hu: tuple[float, float] = (-1000.0, 200.0)
    points: int = 25_000
    largest_rotation_rad: float = 0.6
    largest_shift_mm: float = 80.0
    largest_log_scale: float = 0.45
    largest_shear: float = 0.25
    remnant: float = 0.5
    lopsided: float = 0.2
    window: int = 5
    noise_hu: float = 30.0
    overlap_loss: float = 0.02

    def __post_init__(self):
        """Refuses bounds that leave no map to search, and resolutions that get coarser."""
        tuples(self, "spacings_mm", "window_hu")
        positive(self, "points", "margin_mm", "largest_rotation_rad", "largest_shift_mm")
        positive(self, "largest_log_scale", "largest_shear", "lopsided", "noise_hu", "window")
        ordered("prealignment.window_hu", self.window_hu)
        ordered("prealignment.spacings_mm", self.spacings_mm[::-1])
        check(
            len(self.spacings_mm) >= 1 and self.spacings_mm[-1] > 0,
            "prealignment.spacings_mm",
            "at least one length > 0",
            self.spacings_mm,
            "Use (10.0, 6.0, 4.0).",
        )


@dataclasses.dataclass(frozen=True)
class LungGridConfig:
    """The grid around the lungs on which a pair is aligned (`jaxreg.geometry.lung_grid`).

    Attributes:
        shape: voxels (X, Y, Z); None takes one of `shapes`, by the voxels of the images.
        shapes: from coarse to fine; voxels of about 2.3, 1.5 and 1.3 mm in the lungs of an adult.
        per_voxel: the coarsest of `shapes` is taken whose voxels are at most this large, in those
            of the coarser image (cube roots of their volumes); the finest where none is.
        margin_mm: around the lungs, so that their surface has an outside to be compared with.
        working_mm: images with smaller voxels are reduced, by means over blocks no larger than
            this, before lungs, prealignment and this grid.
        working_voxels: no axis gets shorter by that; the longest of `shape`, where it is given.
        smallest_mm: lungs smaller than a cube with this edge (a newborn's, a mouse's), where a mask
            tells, are prealigned as if they had that size, and the margin shrinks with them: the
            lengths of other settings are those of children and adults.
    """

    shape: tuple[int, int, int] | None = None
    shapes: tuple[tuple[int, int, int], ...] = ((128, 104, 128), (192, 160, 192), (224, 184, 224))
    per_voxel: float = 0.78
    margin_mm: float = 12.0
    working_mm: float = 1.5
    working_voxels: int = 192
    smallest_mm: float = 80.0

    def __post_init__(self):
        """Refuses grids too small for one level, and shapes that do not get finer."""
        object.__setattr__(self, "shapes", tuple(tuple(shape) for shape in self.shapes))
        if self.shape is not None:
            tuples(self, "shape")
            grid_shape("grid.shape", self.shape)
        positive(self, "per_voxel", "margin_mm", "working_mm", "working_voxels", "smallest_mm")
        check(len(self.shapes) > 0, "grid.shapes", "at least one shape", self.shapes, "Add one.")
        for shape in self.shapes:
            grid_shape("grid.shapes", shape)
        ordered("grid.shapes, in voxels", [float(math.prod(shape)) for shape in self.shapes])


@dataclasses.dataclass(frozen=True)
class OptimiserConfig:
    """Instance optimisation by Gauss-Newton steps (`jaxreg.engine.gauss_newton`).

    Attributes:
        enabled: whether it takes part.
        window_hu: values outside are clipped: lungs and their vessels, not bone or contrast.
        radius: of the window of the local correlation, voxels of a level.
        rim: radius, voxels of the displacement's grid, of the window in which lungs of both images
            are compared: where they differ by more than a quarter of it, intensities count less.
        noise_hu: standard deviation of noise in CT of the lung; less contrast counts as none.
        gain_floor: of the mean square in a window, so that flat windows have gain 0.
        smoothness: weight of curvature.
        balance: ratio of the mean of 1 - LNCC^2 to the curvature so far (h^2 times the mean squared
            Laplacian) at which a pair gets that weight; other pairs get one that differs by the
            square root of their ratio to this one. 0 gives all pairs the same weight.
        most_balance: factor by which their weight is larger or smaller at most.
        anchor_mm: distance over which a field returns to the linear prealignment where nothing is
            compared.
        damping: of a step, 1/mm^2; keeps it finite where nothing is seen.
        coarsest: voxels along the shortest axis of the first level, at least.
        most_steps: Gauss-Newton steps a level, at most.
        smallest_step: voxels of the displacement's grid, mean length in the lungs; a level ends
            below it.
        longest_step: voxels of the displacement's grid; below 1 neighbours cannot change places.
        largest_ratio: of a step to the one before, at most. Steps that shrink by a ratio are taken
            at once, as if it went on; a larger ratio counts as this one; 0 takes each by itself.
        solver_steps: of conjugate gradients on the finest grid, on coarser ones, on the coarsest.
        keypoint_mm3: a keypoint weighs as that much lung whose standardised slope is 1/mm.
        continuation: weight of curvature where a field of networks is continued outside the lungs.
    """

    enabled: bool = True
    window_hu: tuple[float, float] = (-1000.0, 0.0)
    radius: int = 3
    rim: int = 2
    noise_hu: float = 40.0
    gain_floor: float = 1e-3
    smoothness: float = 1.2
    balance: float = 40.0
    most_balance: float = 4.0
    anchor_mm: float = 35.0
    damping: float = 1e-6
    coarsest: int = 16
    most_steps: int = 15
    smallest_step: float = 0.03
    longest_step: float = 0.8
    largest_ratio: float = 0.6
    solver_steps: tuple[int, int, int] = (8, 20, 50)
    keypoint_mm3: float = 100.0
    continuation: float = 0.1

    def __post_init__(self):
        """Refuses weights, lengths and counts that are not positive."""
        tuples(self, "window_hu", "solver_steps")
        ordered("optimiser.window_hu", self.window_hu)
        positive(self, "radius", "rim", "noise_hu", "gain_floor", "smoothness", "damping")
        positive(self, "anchor_mm", "coarsest")
        positive(self, "most_steps", "smallest_step", "keypoint_mm3", "continuation")
        below_one_voxel(self, "longest_step")
        check(
            0 <= self.largest_ratio < 1,
            "optimiser.largest_ratio",
            "a number from 0 to below 1",
            self.largest_ratio,
            "Use 0.6.",
        )
        check(self.balance >= 0, "optimiser.balance", "a number >= 0", self.balance, "Use 40.")
        check(
            self.most_balance >= 1,
            "optimiser.most_balance",
            "a factor of at least 1",
            self.most_balance,
            "Use 4.",
        )
        check(
            len(self.solver_steps) == 3 and all(n >= 1 for n in self.solver_steps),
            "optimiser.solver_steps",
            "three numbers of steps",
            self.solver_steps,
            "Use (8, 20, 50).",
        )


@dataclasses.dataclass(frozen=True)
class CertificateConfig:
    """Repair of a field where the certificate cannot exclude folds (`jaxreg.ops.certificate`).

    Attributes:
        enabled: whether a field is repaired; it is verified in either case.
        margin: least Bernstein coefficient that is certified: above the rounding of float32, in
            millimetres and on disk.
        rounds: of smoothing at one radius before it doubles.
    """

    enabled: bool = True
    margin: float = 1e-3
    rounds: int = 8

    def __post_init__(self):
        """Refuses margins that certify folds."""
        positive(self, "margin", "rounds")


@dataclasses.dataclass(frozen=True)
class CascadeConfig:
    """The networks in a registration (`jaxreg.network.cascade`).

    Attributes:
        enabled: whether they take part.
        weights: name of weights that ship with the package, or path of an .npz file; "given" where
            the caller passes parameters.
        architecture: of parameters that the caller passes; None is that stored with the weights.
    """

    enabled: bool = False
    weights: str = "lung"
    architecture: NetworkConfig | None = None


@dataclasses.dataclass(frozen=True)
class RegistrationConfig:
    """All settings of a registration.

    Attributes:
        lungs: segmentation of the lungs where no mask is given.
        prealignment: linear map found first.
        grid: around the lungs, on which the pair is aligned.
        network: networks, on their own grid.
        optimiser: instance optimisation on the pair.
        keypoints: detection and matching of keypoints.
        trust: how quality is estimated, and what is warned of.
        certificate: verification and repair of folds.
        series: phases over time, where there are more than two images.
        inverse_consistency: whether the pair is registered in the other direction too, for a map
            of the inverse-consistency error.
        field_spacing_mm: largest voxel size of the displacement field that is certified and
            written; 0 for the grid of the fixed image. Other images are on that grid in any case.
    """

    lungs: LungConfig = LungConfig()
    prealignment: PrealignmentConfig = PrealignmentConfig()
    grid: LungGridConfig = LungGridConfig()
    network: CascadeConfig = CascadeConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    keypoints: KeypointConfig = KeypointConfig()
    trust: TrustConfig = TrustConfig()
    certificate: CertificateConfig = CertificateConfig()
    series: SeriesConfig = SeriesConfig()
    inverse_consistency: bool = False
    field_spacing_mm: float = 0.0

    def __post_init__(self):
        """Refuses an inverse-consistency error of a map whose inverse is exact, and sizes < 0."""
        check(
            0.0 <= self.field_spacing_mm < math.inf,
            "field_spacing_mm",
            "a voxel size in mm, or 0 for the grid of the fixed image",
            self.field_spacing_mm,
            "Use 0, or such as 3.",
        )
        check(
            not self.inverse_consistency or self.deforms,
            "inverse_consistency",
            "a method that deforms, whose inverse is not exact",
            True,
            "Use classical, cascade or full.",
        )

    @property
    def deforms(self) -> bool:
        """Whether a stage beside the linear one takes part."""
        return self.network.enabled or self.optimiser.enabled


# Which stages take part: prealignment, networks, optimiser.
_STAGES = {
    "initial": (False, False, False),
    "affine": (True, False, False),
    "cascade": (True, True, False),
    "classical": (True, False, True),
    "full": (True, True, True),
}
METHODS = tuple(_STAGES)


def with_method(config: RegistrationConfig, method: str) -> RegistrationConfig:
    """The settings with the stages of a method of METHODS.

    Args:
        config: the settings.
        method: one of METHODS; it says which stages take part.

    Returns:
        The same settings with these stages.

    Raises:
        ValueError: no such method.
    """
    check(
        method in _STAGES,
        "method",
        f"one of {', '.join(METHODS)}",
        repr(method),
        "Choose one of these.",
    )
    groups = zip(("prealignment", "network", "optimiser"), _STAGES[method], strict=True)
    stages = {g: dataclasses.replace(getattr(config, g), enabled=on) for g, on in groups}
    return dataclasses.replace(config, **stages)


def method_name(config: RegistrationConfig) -> str:
    """Name of the method whose stages take part; "custom" for any other combination."""
    stages = (config.prealignment.enabled, config.network.enabled, config.optimiser.enabled)
    return next((name for name, those in _STAGES.items() if those == stages), "custom")
