"""Settings of a registration, by stage; the methods are presets of them.

Everything that changes a result and is not an image, a mask or a weight stands here. The settings
are hashable, so they can be static arguments of `jax.jit`.
"""

import dataclasses

from jaxreg.config.checks import check, ordered, positive, tuples
from jaxreg.config.training import NetworkConfig


@dataclasses.dataclass(frozen=True)
class LungConfig:
    """Segmentation of the lungs (`jaxreg.lungs.segmentation`).

    Attributes:
        spacing_mm: voxel size of the reduced grid, where the image is finer than that.
        window_hu: values are clipped to it before the reduction, so that metal does not spread.
        void_hu: values below are padding outside the field of view.
        lung_hu: threshold between lung (at exhale about -700) and soft tissue.
        body_hu: threshold between body and air.
        body_opening_mm: radius of the opening that takes table and clothes off the body.
        gas_hu: a component with a median below holds gas (outside air, bowel), not lung.
        small_gas_hu: the same of a small component, since the tissue around it blurs into it.
        small_share: of all air; a component with less is small.
        least_share: of the largest component; another with less cannot be a lung.
        cut_share: of a component within the body; with more, what lies outside may belong to it,
            where the volume cuts a lung at a corner.
        piece_share: of the lungs; a piece of them with more can be one side.
        closing_mm: vessels, airways and nodules up to twice this width are closed.
        separation_mm: least distance of the centres of two lungs from right to left.
        contact_mm: half the thickest bridge between two lungs that touch.
        side_share: of a label; if more lies on one side of the body, all of it does.
        minimum_ml: smallest component that can be a lung.
        airways_ml: most that trachea and main bronchi hold.
        airway_wall_mm: dilation of the airways, for their walls.
        airways_reach_mm: how far around the trachea airways are grown: to both sides, forwards and
            backwards, downwards.
        airways_hu: thresholds under which airways are grown; the first that does not leak serves.
        trachea_hu: threshold between the gas of the trachea and its surroundings.
        trachea_mean_hu: a cross-section with a greater mean is none of the trachea.
        trachea_median_hu: cross-sections that together have a greater median are no trachea.
        trachea_mm2: least and greatest area of its cross-sections.
        trachea_width_mm: greatest extent of a cross-section along an axis.
        trachea_fill: least share of a cross-section in its bounding box.
        trachea_length_mm: least length.
        bone_hu: threshold of bone.
        back_share: of the body from behind, where the spine is sought.
        spine_ml: with less bone there, the body's centre is taken for the spine.
        spine_mm: standard deviation of the smoothing from right to left that finds the spine.
    """

    spacing_mm: float = 2.5
    window_hu: tuple[float, float] = (-1024.0, 600.0)
    void_hu: float = -1500.0
    lung_hu: float = -450.0
    body_hu: float = -300.0
    body_opening_mm: float = 4.0
    gas_hu: float = -970.0
    small_gas_hu: float = -920.0
    small_share: float = 0.1
    least_share: float = 0.05
    cut_share: float = 0.1
    piece_share: float = 0.1
    closing_mm: float = 6.5
    separation_mm: float = 60.0
    contact_mm: float = 20.0
    side_share: float = 0.8
    minimum_ml: float = 20.0
    airways_ml: float = 60.0
    airway_wall_mm: float = 3.0
    airways_reach_mm: tuple[float, float, float] = (45.0, 45.0, 60.0)
    airways_hu: tuple[float, ...] = (-800.0, -850.0, -900.0, -925.0, -950.0, -975.0)
    trachea_hu: float = -600.0
    trachea_mean_hu: float = -800.0
    trachea_median_hu: float = -840.0
    trachea_mm2: tuple[float, float] = (50.0, 800.0)
    trachea_width_mm: float = 45.0
    trachea_fill: float = 0.5
    trachea_length_mm: float = 20.0
    bone_hu: float = 150.0
    back_share: float = 0.45
    spine_ml: float = 30.0
    spine_mm: float = 15.0

    def __post_init__(self):
        """Refuses lengths that are not positive, shares above 1, and thresholds out of order."""
        positive(self, "spacing_mm", "closing_mm", "separation_mm", "contact_mm", "minimum_ml")
        positive(self, "airways_ml", "airway_wall_mm", "trachea_length_mm", "trachea_width_mm")
        positive(self, "body_opening_mm", "spine_ml", "spine_mm")
        tuples(self, "airways_hu", "airways_reach_mm", "trachea_mm2", "window_hu")
        shares = ("small_share", "least_share", "cut_share", "piece_share", "back_share")
        for name in (*shares, "side_share", "trachea_fill"):
            value = getattr(self, name)
            check(0 < value < 1, f"lungs.{name}", "a number between 0 and 1", value, "Use 0.1.")
        check(
            len(self.airways_reach_mm) == 3 and all(mm >= 0 for mm in self.airways_reach_mm),
            "lungs.airways_reach_mm",
            "three lengths of at least 0",
            self.airways_reach_mm,
            "Use (45.0, 45.0, 60.0).",
        )
        ordered("lungs.window_hu", self.window_hu)
        ordered("lungs.airways_hu", self.airways_hu[::-1])
        ordered("lungs.trachea_mm2", self.trachea_mm2)
        ordered("lungs", (self.void_hu, self.gas_hu, self.lung_hu, self.body_hu))


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
    overlap_loss: float = 0.02

    def __post_init__(self):
        """Refuses bounds that leave no map to search, and resolutions that get coarser."""
        tuples(self, "spacings_mm", "window_hu")
        positive(self, "points", "margin_mm", "largest_rotation_rad", "largest_shift_mm")
        positive(self, "largest_log_scale", "largest_shear")
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
        shape: voxels (X, Y, Z); about 1.5 mm in the lungs of an adult.
        margin_mm: around the lungs, so that their surface has an outside to be compared with.
    """

    shape: tuple[int, int, int] = (192, 160, 192)
    margin_mm: float = 12.0

    def __post_init__(self):
        """Refuses grids too small for one level."""
        tuples(self, "shape")
        positive(self, "margin_mm")
        check(
            len(self.shape) == 3 and all(isinstance(n, int) and n >= 16 for n in self.shape),
            "grid.shape",
            "three whole numbers of at least 16 voxels",
            self.shape,
            "Use (192, 160, 192).",
        )


@dataclasses.dataclass(frozen=True)
class OptimiserConfig:
    """Instance optimisation by Gauss-Newton steps (`jaxreg.engine.gauss_newton`).

    Attributes:
        enabled: whether it takes part.
        window_hu: values outside are clipped: lungs and their vessels, not bone or contrast.
        radius: of the window of the local correlation, voxels of a level.
        rim: radius, voxels of a level, of the window in which lungs of both images are compared:
            where they differ by more than a quarter of it, intensities count less.
        noise_hu: standard deviation of noise in CT of the lung; less contrast counts as none.
        gain_floor: of the mean square in a window, so that flat windows have gain 0.
        smoothness: weight of curvature.
        anchor_mm: distance over which a field returns to the linear prealignment where nothing is
            compared.
        damping: of a step, 1/mm^2; keeps it finite where nothing is seen.
        coarsest: voxels along the shortest axis of the first level, at least.
        most_steps: Gauss-Newton steps a level, at most.
        smallest_step: voxels of the displacement's grid, root mean square in the lungs; a level
            ends below it.
        longest_step: voxels of the displacement's grid; below 1 neighbours cannot change places.
        solver_steps: of conjugate gradients on the finest grid, on coarser ones, on the coarsest.
        keypoint_mm3: a keypoint weighs as that much lung whose standardised slope is 1/mm.
        continuation: weight of curvature where a field of networks is continued outside the lungs.
    """

    enabled: bool = True
    window_hu: tuple[float, float] = (-1000.0, 0.0)
    radius: int = 2
    rim: int = 4
    noise_hu: float = 40.0
    gain_floor: float = 1e-3
    smoothness: float = 1.0
    anchor_mm: float = 35.0
    damping: float = 1e-6
    coarsest: int = 16
    most_steps: int = 15
    smallest_step: float = 0.005
    longest_step: float = 0.8
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
        check(
            0 < self.longest_step < 1,
            "optimiser.longest_step",
            "a number of voxels between 0 and 1",
            self.longest_step,
            "Longer steps could fold. Use 0.8.",
        )
        check(
            len(self.solver_steps) == 3 and all(n >= 1 for n in self.solver_steps),
            "optimiser.solver_steps",
            "three numbers of steps",
            self.solver_steps,
            "Use (8, 20, 50).",
        )


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How one resolution is searched for keypoints.

    Attributes:
        radius: of the displacements about the one so far, voxels of the descriptors.
        patch: radius of the patch, voxels of the descriptors.
        stiffness: of the alternations with the affine fit, 1/mm^2.
    """

    radius: tuple[int, int, int]
    patch: int
    stiffness: tuple[float, ...]

    def __post_init__(self):
        """Refuses searches over nothing."""
        tuples(self, "radius", "stiffness")
        positive(self, "patch")
        check(
            len(self.radius) == 3 and all(r >= 1 for r in self.radius),
            "keypoints.searches",
            "a radius of three voxels, each at least 1",
            self.radius,
            "Use (2, 2, 2).",
        )


# At 1/4, 1/2 and 1/1 of the resolution. On the lung grid of an adult the first search reaches 50 mm
# along the body and 25 mm across.
_SEARCHES = (
    SearchConfig((4, 5, 9), 1, (1e-5, 1e-4, 1e-3)),
    SearchConfig((3, 3, 3), 1, (3e-4, 1e-3, 3e-3)),
    SearchConfig((2, 2, 2), 3, (3e-3, 1e-2, 3e-2)),
)


@dataclasses.dataclass(frozen=True)
class KeypointConfig:
    """Detection and matching of keypoints (`jaxreg.engine.keypoints`, `jaxreg.engine.matching`).

    Attributes:
        count: detected at most.
        block_mm: edge of the blocks over which they are distributed.
        flat_hu2: per mm^2; less distinctive than that is noise.
        rim: voxels inside the border of the lungs without keypoints: the chest wall moves apart.
        return_mm: a match is kept if the match back ends within this distance.
        neighbours: points to which the affine fit at a point is made.
        reach_mm: standard deviation of the weights of that fit.
        linked: nearest points with which costs are exchanged.
        exchanges: rounds of that.
        coupling: weight of the neighbours' costs.
        bending: weight of the squared difference of neighbours' displacements, 1/mm^2.
        searches: of the three resolutions, coarsest first.
        window_hu: values outside are clipped before they are compared.
        mind_noise_hu2: squared difference of patches that noise alone makes.
        radius: of the window of the standardisation, voxels.
        noise_hu: standard deviation of noise in it.
    """

    count: int = 4096
    block_mm: float = 20.0
    flat_hu2: float = 1.0
    rim: int = 2
    return_mm: float = 2.0
    neighbours: int = 32
    reach_mm: float = 20.0
    linked: int = 10
    exchanges: int = 6
    coupling: float = 6.0
    bending: float = 5e-4
    searches: tuple[SearchConfig, SearchConfig, SearchConfig] = _SEARCHES
    window_hu: tuple[float, float] = (-1000.0, 0.0)
    mind_noise_hu2: float = 200.0
    radius: int = 2
    noise_hu: float = 40.0

    def __post_init__(self):
        """Refuses counts and lengths that are not positive."""
        tuples(self, "searches", "window_hu")
        ordered("keypoints.window_hu", self.window_hu)
        positive(self, "mind_noise_hu2", "radius", "noise_hu")
        positive(self, "count", "block_mm", "flat_hu2", "rim", "return_mm", "neighbours")
        positive(self, "reach_mm", "linked", "exchanges", "coupling", "bending")
        check(
            len(self.searches) == 3,
            "keypoints.searches",
            "three, coarsest first",
            self.searches,
            "Give one for 1/4, 1/2 and 1/1 of the resolution.",
        )


@dataclasses.dataclass(frozen=True)
class TrustConfig:
    """What is doubted of a pair and of its registration (`jaxreg.trust`).

    Attributes:
        window_hu: values outside are clipped before the images are compared.
        radius: of the windows of standardisation and correlation, voxels of half of the lung grid.
        noise_hu: standard deviation of noise there.
        quality: intercept and coefficients of the logistic model of "the error is below 2 mm":
            local correlation and that of the lung, each times the share shown, and |log det|.
        least_agreement: correlation in a lung below which the images hardly agree.
        least_shown: share of a lung of either image that the other shows, of what lies within its
            scan, below which that is said.
        most_cut: share of the lungs' surface at which a scan may end.
        orientation_gain: of the similarity by which another orientation must fit better.
        correlation_loss: of the correlation in the lungs that a registration may cost.
        lungs_ml: volumes of both lungs that a person can have.
        breath: factor by which a lung may grow or shrink by breathing.
        fewest_voxels: of a mask; of fewer nothing is said.
    """

    window_hu: tuple[float, float] = (-1000.0, 0.0)
    radius: int = 2
    noise_hu: float = 20.0
    quality: tuple[float, float, float, float] = (-3.3, 2.2, 6.5, -4.0)
    least_agreement: float = 0.5
    least_shown: float = 0.8
    most_cut: float = 0.02
    orientation_gain: float = 0.1
    correlation_loss: float = 0.05
    lungs_ml: tuple[float, float] = (100.0, 12_000.0)
    breath: float = 5.0
    fewest_voxels: int = 1000

    def __post_init__(self):
        """Refuses windows, shares and counts that say nothing."""
        tuples(self, "window_hu", "quality", "lungs_ml")
        ordered("trust.window_hu", self.window_hu)
        ordered("trust.lungs_ml", self.lungs_ml)
        positive(self, "radius", "noise_hu", "breath", "fewest_voxels")
        check(
            len(self.quality) == 4,
            "trust.quality",
            "an intercept and three coefficients",
            self.quality,
            "Use (-3.3, 2.2, 6.5, -4.0).",
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
        inverse_consistency: whether the pair is registered in the other direction too, for a map
            of the inverse-consistency error.
    """

    lungs: LungConfig = LungConfig()
    prealignment: PrealignmentConfig = PrealignmentConfig()
    grid: LungGridConfig = LungGridConfig()
    network: CascadeConfig = CascadeConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    keypoints: KeypointConfig = KeypointConfig()
    trust: TrustConfig = TrustConfig()
    certificate: CertificateConfig = CertificateConfig()
    inverse_consistency: bool = False

    def __post_init__(self):
        """Refuses an inverse-consistency error of a map whose inverse is exact."""
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
