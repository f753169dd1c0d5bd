"""Settings of a training: synthetic pairs, loss, schedule."""

import dataclasses

from jaxreg.config.augmentation import AugmentationConfig
from jaxreg.config.checks import check
from jaxreg.config.network import NetworkConfig


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """The stream of synthetic pairs: how anatomies, motion and scans vary.

    Lengths of pairs are (least, most) unless said otherwise; fractions lie between 0 and 1.

    Attributes:
        keypoints: points a pair whose ground truth is told.
        identical: fraction of pairs of one image with itself, which must not move.
        residual_mm: root mean square of the motion in the lungs that no affine map explains,
            uniform in its logarithm.
        smooth: fraction of its power in the smooth part.
        waves: voxels of half the network grid between control points of the other part's waves.
        roughness: exponent of the size of a wave with its length; smaller is rougher.
        steepest: most the Jacobian of the motion may reach in the lungs, so that nothing folds.
        breath: sd of the growth along each axis that the lung density follows.
        linear: sd of the entries of the affine map that prealignment leaves.
        shift_mm: sd of its shift.
        sliding: fraction of pairs whose lungs slide along the wall.
        binning: fraction of pairs whose moving image shows a slab in another phase, as a 4DCT may.
        other_phase: of the motion, in that slab.
        slab: its thickness, as a fraction of the grid.
        wall_hu: of what takes the place of lung where the wall moves less.
        size: most by which a person is larger or smaller along an axis.
        margin_mm: between lungs and face of the grid.
        turn: sd of the entries of the linear part of the change of anatomy.
        anatomy_mm: largest root mean square of that change at its two sizes.
        lesions: at most, each there with the probability `lesion`.
        lesion: see above.
        lesion_hu: of their kinds: solid, ground glass, emphysema.
        lesion_mm: their radius, uniform in its logarithm.
        kernel: most smoothing or sharpening.
        contrast: sd of the intensity scale about -1000 HU.
        offset_hu: sd of the intensity shift.
        noise_hu: largest sd of the noise on the network grid.
        cut: probability that a field of view ends within the lungs' box at a face of the grid.
        cut_depth: how far in at most, as a fraction of the grid.
    """

    keypoints: int = 2048
    identical: float = 1 / 16
    residual_mm: tuple[float, float] = (1.2, 11.0)
    smooth: tuple[float, float] = (0.4, 0.85)
    waves: tuple[int, ...] = (12, 7, 4, 2)
    roughness: float = 0.8
    steepest: float = 0.85
    breath: float = 0.12
    linear: float = 0.012
    shift_mm: float = 1.0
    sliding: float = 0.5
    binning: float = 0.1
    other_phase: float = 0.6
    slab: tuple[float, float] = (0.04, 0.12)
    wall_hu: float = 40.0
    size: float = 0.15
    margin_mm: tuple[float, float] = (4.0, 30.0)
    turn: float = 0.04
    anatomy_mm: tuple[float, float] = (8.0, 2.5)
    lesions: int = 4
    lesion: float = 0.25
    lesion_hu: tuple[float, ...] = (40.0, -500.0, -960.0)
    lesion_mm: tuple[float, float] = (4.0, 48.0)
    kernel: float = 0.7
    contrast: float = 0.04
    offset_hu: float = 10.0
    noise_hu: float = 45.0
    cut: float = 0.1
    cut_depth: float = 0.3

    def __post_init__(self):
        """Refuses probabilities outside [0, 1], ranges upside down and negative sizes."""
        for name in ("residual_mm", "smooth", "margin_mm", "anatomy_mm", "slab", "lesion_mm"):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            check(
                len(values) == 2 and all(value >= 0 for value in values),
                name,
                "two numbers >= 0",
                values,
                f"The default is {getattr(SyntheticConfig, name)}.",
            )
        low, high = self.residual_mm
        check(0 < low <= high, "residual_mm", "0 < least <= most", self.residual_mm, "Use (1, 10).")
        low, high = self.lesion_mm
        check(0 < low <= high, "lesion_mm", "0 < least <= most", self.lesion_mm, "Use (4, 48).")
        check(max(self.slab) <= 1, "slab", "fractions from 0 to 1", self.slab, "Use (0.04, 0.12).")
        kinds = tuple(self.lesion_hu)
        object.__setattr__(self, "lesion_hu", kinds)
        check(len(kinds) >= 1, "lesion_hu", "at least one kind", kinds, "Use (40,).")
        object.__setattr__(self, "waves", tuple(self.waves))
        check(
            len(self.waves) >= 1 and all(n >= 1 for n in self.waves),
            "waves",
            "lengths of at least 1 voxel",
            self.waves,
            "Use (12, 7, 4, 2).",
        )
        fractions = ("identical", "sliding", "binning", "lesion", "cut", "cut_depth", "steepest")
        for name in (*fractions, "size", "other_phase"):
            value = getattr(self, name)
            check(0 <= value <= 1, name, "a number from 0 to 1", value, "Use a fraction.")
        check(max(self.smooth) <= 1, "smooth", "fractions from 0 to 1", self.smooth, "Use (0, 1).")
        for name in ("keypoints", "lesions"):
            check(getattr(self, name) >= 1, name, "at least 1", getattr(self, name), "Use 4.")
        sizes = ("breath", "linear", "shift_mm", "turn", "kernel", "contrast", "offset_hu")
        for name in (*sizes, "noise_hu"):
            check(getattr(self, name) >= 0, name, "a number >= 0", getattr(self, name), "Use 0.")


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the training loss; `jaxreg.training.losses.total` states how each term is scaled.

    Per-level tuples run from level 1 (finest) to level L.

    Attributes:
        similarity: weight of the NGF distance.
        smoothness: alpha, of the curvature energy (mm^-2).
        masks: beta, of the mask alignment.
        volume: gamma, of the volume change penalty.
        keypoints: delta, per level, of the keypoint distance (mm^2).
        volume_threshold: t of psi_t, per level.
        edge: epsilon of NGF in HU/mm; 0 means "auto", `edge_ratio` times the mean gradient.
        edge_ratio: nu of the automatic epsilon.
        lncc: weight of the local correlation, VoxelMorph's similarity.
        diffusion: weight of the diffusion energy, VoxelMorph's smoothness.
        distance: weight of the mean distance of the keypoints (mm), which outliers govern less
            than the squared one.
    """

    similarity: float = 1.0
    smoothness: float = 1.0
    masks: float = 1.0
    volume: float = 0.1
    keypoints: tuple[float, ...] = (0.02, 0.02, 0.0)
    volume_threshold: tuple[float, ...] = (0.05, 0.1, 0.2)
    edge: float = 0.0
    edge_ratio: float = 1.0
    lncc: float = 0.0
    diffusion: float = 0.0
    distance: float = 0.0

    def __post_init__(self):
        """Refuses negative weights and thresholds outside (0, 1)."""
        numbers = ("similarity", "smoothness", "masks", "volume", "edge", "edge_ratio")
        for name in (*numbers, "lncc", "diffusion", "distance"):
            value = getattr(self, name)
            check(value >= 0, name, "a number >= 0", value, "0 switches the term off.")
        check(
            all(weight >= 0 for weight in self.keypoints),
            "keypoints",
            "numbers >= 0",
            self.keypoints,
            "0 switches the term off.",
        )
        check(
            all(0 < t < 1 for t in self.volume_threshold),
            "volume_threshold",
            "numbers between 0 and 1",
            self.volume_threshold,
            "The paper's are (0.05, 0.1, 0.2).",
        )


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, how fast and on what a level is trained.

    Per-level tuples run from level 1 (finest) to level L.

    Attributes:
        steps: of the optimiser, per level.
        batch: pairs a step, per level.
        blocks: parts into which each axis of the grid is cut, per level; a step of a U-Net sees one
            random block of that size. 1 is the whole grid. The coarsest level sees all of it.
        learning_rate: of Adam, at its highest.
        warmup: steps in which it rises from 0.
        decay: fraction of it that is left at the end of the level (cosine); 1, as the paper, keeps
            it.
        seed: of the initial weights, the order of pairs and all random numbers.
        subjects: generated subjects that new pairs are made from, where the data is the phantom.
        validation_pairs: generated pairs kept apart.
        augment: whether prepared pairs are changed at random on the device.
        detected: whether the pairs of generated subjects are prepared once, with keypoints that
            the detector finds in them, rather than made anew at every step with exact ones.
        log_every: steps between lines of the log.
        checkpoint_every: steps between checkpoints.
    """

    steps: tuple[int, ...] = (18750, 18750, 18750)
    batch: tuple[int, ...] = (1, 1, 1)
    blocks: tuple[int, ...] = (1, 1, 1)
    learning_rate: float = 1e-3
    warmup: int = 0
    decay: float = 1.0
    seed: int = 0
    subjects: int = 64
    validation_pairs: int = 4
    augment: bool = True
    detected: bool = False
    log_every: int = 20
    checkpoint_every: int = 200

    def __post_init__(self):
        """Refuses counts that train nothing."""
        for name in ("subjects", "validation_pairs", "log_every", "checkpoint_every"):
            value = getattr(self, name)
            check(value >= 1, name, "at least 1", value, "Give a positive number.")
        check(self.learning_rate > 0, "learning_rate", "> 0", self.learning_rate, "Adam's is 1e-3.")
        check(self.warmup >= 0, "warmup", "at least 0", self.warmup, "0 starts at full rate.")
        check(all(n >= 0 for n in self.steps), "steps", ">= 0 a level", self.steps, "Use 1000.")
        check(all(n >= 1 for n in self.batch), "batch", ">= 1 a level", self.batch, "Use 1.")
        check(all(n >= 1 for n in self.blocks), "blocks", ">= 1 a level", self.blocks, "Use 1.")


PER_LEVEL = (  # finest first
    "loss.keypoints",
    "loss.volume_threshold",
    "training.steps",
    "training.batch",
    "training.blocks",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a training: network, loss, training.

    Attributes:
        network: `NetworkConfig`.
        loss: `LossConfig`.
        training: `TrainingConfig`.
        synthetic: `SyntheticConfig`.
        augmentation: `AugmentationConfig`.
    """

    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    synthetic: SyntheticConfig = SyntheticConfig()
    augmentation: AugmentationConfig = AugmentationConfig()

    def __post_init__(self):
        """Refuses per-level settings that do not match the number of levels."""
        levels = self.network.levels
        for name in PER_LEVEL:
            group, key = name.split(".")
            values = getattr(getattr(self, group), key)
            check(
                len(values) == levels,
                name,
                f"{levels} values, one a level",
                values,
                "Give one value for each level, finest first.",
            )
        self._check_blocks()

    def _check_blocks(self):
        blocks = self.training.blocks
        whole = len(blocks) if self.network.architecture == "least_squares" else 1
        check(
            all(n == 1 for n in blocks[-whole:]),
            "training.blocks",
            "1 at the coarsest level, and at all levels of least squares",
            blocks,
            "Use (2, 1, 1).",
        )


def with_levels(config: Config, steps: tuple[int, ...]) -> Config:
    """The settings with fewer levels, the finest ones, and other numbers of steps.

    Args:
        config: settings of at least that many levels.
        steps: of each level that is kept, finest first.

    Returns:
        Settings of len(steps) levels.
    """
    levels = len(steps)
    loss = dataclasses.replace(
        config.loss,
        keypoints=config.loss.keypoints[:levels],
        volume_threshold=config.loss.volume_threshold[:levels],
    )
    training = dataclasses.replace(
        config.training,
        steps=steps,
        batch=config.training.batch[:levels],
        blocks=config.training.blocks[:levels],
    )
    rounds = config.network.rounds[:levels]
    network = dataclasses.replace(config.network, levels=levels, rounds=rounds)
    return dataclasses.replace(config, network=network, loss=loss, training=training)
