"""Settings of a training: network, loss, schedule."""

import dataclasses

from jaxreg.config.checks import check

Shape = tuple[int, ...]  # (X, Y, Z)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The cascade: which grid it works on and how wide its U-Nets are.

    Attributes:
        grid: voxels (X, Y, Z) of the network grid, onto which the box of the lungs is resampled.
        levels: L, number of U-Nets; level l works at 1/2^(l-1) of the grid, L is the coarsest.
        widths: filters per resolution of each U-Net, finest first.
        convs: 3x3x3 convolutions per resolution.
        precision: "float32" or "bfloat16", of the convolutions only.
        window: lowest and highest HU that the networks tell apart.
        flow: rounds of local least-squares flow (`jaxreg.network.flow`) that each level starts
            from; 0, as the paper, leaves everything to the network.
    """

    grid: Shape = (192, 160, 192)
    levels: int = 3
    widths: tuple[int, ...] = (16, 32, 64, 128)
    convs: int = 2
    precision: str = "float32"
    window: tuple[float, float] = (-1000.0, 500.0)
    flow: int = 0

    def __post_init__(self):
        """Refuses what no network can be built from; lists become tuples, which jit can compare."""
        object.__setattr__(self, "grid", tuple(self.grid))
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "window", tuple(self.window))
        check(len(self.grid) == 3, "grid", "three sizes", self.grid, "Give (X, Y, Z).")
        check(self.levels >= 1, "levels", "at least 1", self.levels, "Use 3, as the paper.")
        check(
            len(self.widths) >= 1 and all(w >= 1 for w in self.widths),
            "widths",
            "one positive number of filters a resolution",
            self.widths,
            "The paper's are (16, 32, 64, 128).",
        )
        check(self.convs >= 1, "convs", "at least 1", self.convs, "Use 2.")
        smallest = 2 ** (len(self.widths) + self.levels - 2)
        check(
            all(n >= smallest for n in self.grid),
            "grid",
            f"at least {smallest} voxels an axis, two in the deepest layer of level {self.levels}",
            self.grid,
            "Use a larger grid or fewer levels.",
        )
        check(
            self.precision in ("float32", "bfloat16"),
            "precision",
            '"float32" or "bfloat16"',
            self.precision,
            "Only convolutions are affected.",
        )
        check(self.flow >= 0, "flow", "at least 0", self.flow, "Use 0, as the paper, or 2.")
        check(
            len(self.window) == 2 and self.window[0] < self.window[1],
            "window",
            "two HU, the lower first",
            self.window,
            "Use (-1000.0, 500.0), air to bone.",
        )


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

    def __post_init__(self):
        """Refuses negative weights and thresholds outside (0, 1)."""
        numbers = ("similarity", "smoothness", "masks", "volume", "edge", "edge_ratio")
        for name in (*numbers, "lncc", "diffusion"):
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
        learning_rate: of Adam, at its highest.
        warmup: steps in which it rises from 0.
        decay: share of it that is left at the end of the level (cosine); 1 keeps it, as the paper.
        seed: of the initial weights, the order of pairs and all that is drawn.
        subjects: generated subjects that new pairs are made from, where the data is the phantom.
        validation_pairs: generated pairs kept apart.
        augment: whether the pairs of a manifest are changed at random on the device.
        log_every: steps between lines of the log.
        checkpoint_every: steps between checkpoints.
    """

    steps: tuple[int, ...] = (18750, 18750, 18750)
    batch: tuple[int, ...] = (1, 1, 1)
    learning_rate: float = 1e-3
    warmup: int = 0
    decay: float = 1.0
    seed: int = 0
    subjects: int = 64
    validation_pairs: int = 4
    augment: bool = True
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


PER_LEVEL = (  # finest first
    "loss.keypoints",
    "loss.volume_threshold",
    "training.steps",
    "training.batch",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a training: network, loss, training.

    Attributes:
        network: `NetworkConfig`.
        loss: `LossConfig`.
        training: `TrainingConfig`.
    """

    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()

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
        config.training, steps=steps, batch=config.training.batch[:levels]
    )
    return Config(dataclasses.replace(config.network, levels=levels), loss, training)
