"""Settings of the networks of the cascade."""

import dataclasses

from jaxreg.config.checks import below_one_voxel, check, positive, tuples

Shape = tuple[int, ...]  # (X, Y, Z)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The cascade: which grid it works on, of what its levels are, and how wide they are.

    Attributes:
        grid: voxels (X, Y, Z) of the network grid, onto which the box of the lungs is resampled.
        architecture: of a level; "unet" is the paper's, "least_squares" compares learned channels
            in Gauss-Newton rounds (`jaxreg.network.least_squares`).
        levels: L, number of levels; level l works at 1/2^(l-1) of the grid, L is the coarsest.
        widths: filters per resolution of each U-Net, finest first; with least squares those of
            each hidden layer.
        convs: 3x3x3 convolutions per resolution of a U-Net.
        rounds: of least squares, per level, finest first; one number holds for all.
        channels: that are compared in them.
        by_hand: how many of the finest levels compare the standardised image alone, by least
            squares without a network.
        precision: "float32" or "bfloat16", of the convolutions only.
        window: lowest and highest HU that the networks distinguish.
        noise_hu: of least squares; a standard deviation that counts as none where the image is
            standardised by its surroundings.
        radius: of least squares; of those surroundings, voxels of a level.
        most_logit: of least squares; confidences lie between exp(-most_logit) and exp(most_logit).
        faint: of least squares; variance of the first learned channels, as a fraction of that
            which keeps a signal's size.
        balance: of least squares; ratio of the mean squared residual to the curvature so far, as in
            `OptimiserConfig`; 0 gives all pairs the same weight of curvature.
        most_balance: of least squares; largest factor of that weight.
        damping: of least squares; of a step, 1/mm^2; keeps it finite where nothing is seen.
        longest_step: of least squares; voxels of the displacement's grid; below 1 neighbours cannot
            change places.
    """

    grid: Shape = (192, 160, 192)
    architecture: str = "unet"
    levels: int = 3
    widths: tuple[int, ...] = (16, 32, 64, 128)
    convs: int = 2
    rounds: tuple[int, ...] = (2,)
    channels: int = 4
    by_hand: int = 0
    precision: str = "float32"
    window: tuple[float, float] = (-1000.0, 500.0)
    noise_hu: float = 40.0
    radius: int = 2
    most_logit: float = 4.0
    faint: float = 0.3
    balance: float = 0.0
    most_balance: float = 4.0
    damping: float = 1e-6
    longest_step: float = 0.8

    def __post_init__(self):
        """Refuses what no network can be built from; lists become tuples, which jit can compare."""
        tuples(self, "grid", "widths", "window", "rounds")
        self._check_levels()
        self._check_layers()

    def _check_levels(self):
        check(
            self.architecture in ("unet", "least_squares"),
            "architecture",
            '"unet" or "least_squares"',
            self.architecture,
            "The paper's is the first.",
        )
        check(self.levels >= 1, "levels", "at least 1", self.levels, "Use 3, as the paper.")
        if len(self.rounds) == 1:
            object.__setattr__(self, "rounds", self.rounds * self.levels)
        check(
            len(self.rounds) == self.levels and all(n >= 1 for n in self.rounds),
            "rounds",
            f"one number >= 1, or {self.levels}",
            self.rounds,
            "Use (2,).",
        )
        check(
            self.by_hand == 0
            or (self.architecture == "least_squares" and 0 < self.by_hand < self.levels),
            "by_hand",
            "0, or with least squares fewer than the levels",
            self.by_hand,
            "Use 0.",
        )

    def _check_layers(self):
        check(self.channels >= 1, "channels", "at least 1", self.channels, "Use 4.")
        check(len(self.grid) == 3, "grid", "three sizes", self.grid, "Give (X, Y, Z).")
        check(
            len(self.widths) >= 1 and all(w >= 1 for w in self.widths),
            "widths",
            "one positive number of filters a resolution",
            self.widths,
            "The paper's are (16, 32, 64, 128).",
        )
        check(self.convs >= 1, "convs", "at least 1", self.convs, "Use 2.")
        deepest = len(self.widths) - 1 if self.architecture == "unet" else 1
        smallest = 2 ** (deepest + self.levels - 1)
        check(
            all(n >= smallest for n in self.grid),
            "grid",
            f"at least {smallest} voxels an axis, for the deepest layer of level {self.levels}",
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
        check(
            len(self.window) == 2 and self.window[0] < self.window[1],
            "window",
            "two HU, the lower first",
            self.window,
            "Use (-1000.0, 500.0), air to bone.",
        )
        positive(self, "noise_hu", "most_logit", "faint", "damping")
        check(self.radius >= 1, "radius", "at least 1", self.radius, "Use 2.")
        check(self.balance >= 0, "balance", "a number >= 0", self.balance, "Use 50.")
        most = self.most_balance
        check(most >= 1, "most_balance", "a factor of at least 1", most, "Use 4.")
        below_one_voxel(self, "longest_step")
