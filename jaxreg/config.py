"""Settings as frozen dataclasses: a misspelt key or an impossible value fails at construction.

A config file under `configs/` is a Python file that sets `config = Config(...)`. A checkpoint keeps
the same settings as JSON beside the weights.
"""

import dataclasses
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxreg.shapes import Shape


def _check(holds, name, rule, value, fix):
    if not holds:
        raise ValueError(f"{name}: expected {rule}, got {value}. {fix}")


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The cascade: which grid it works on and how wide its U-Nets are.

    Attributes:
        grid: voxels (X, Y, Z) of the network grid, onto which the box of the lungs is resampled.
        levels: L, number of U-Nets; level l works at 1/2^(l-1) of the grid, L is the coarsest.
        widths: filters per resolution of each U-Net, finest first.
        convs: 3x3x3 convolutions per resolution.
        precision: "float32" or "bfloat16", of the convolutions only.
    """

    grid: Shape = (192, 160, 192)
    levels: int = 3
    widths: tuple[int, ...] = (16, 32, 64, 128)
    convs: int = 2
    precision: str = "float32"

    def __post_init__(self):
        """Refuses what no network can be built from; lists become tuples, which jit can compare."""
        object.__setattr__(self, "grid", tuple(self.grid))
        object.__setattr__(self, "widths", tuple(self.widths))
        _check(len(self.grid) == 3, "grid", "three sizes", self.grid, "Give (X, Y, Z).")
        _check(self.levels >= 1, "levels", "at least 1", self.levels, "Use 3, as the paper.")
        _check(
            len(self.widths) >= 1 and all(w >= 1 for w in self.widths),
            "widths",
            "one positive number of filters a resolution",
            self.widths,
            "The paper's are (16, 32, 64, 128).",
        )
        _check(self.convs >= 1, "convs", "at least 1", self.convs, "Use 2.")
        smallest = 2 ** (len(self.widths) + self.levels - 2)
        _check(
            all(n >= smallest for n in self.grid),
            "grid",
            f"at least {smallest} voxels an axis, two in the deepest layer of level {self.levels}",
            self.grid,
            "Use a larger grid or fewer levels.",
        )
        _check(
            self.precision in ("float32", "bfloat16"),
            "precision",
            '"float32" or "bfloat16"',
            self.precision,
            "Only convolutions are affected.",
        )


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the training loss; `jaxreg.losses.total` states how each term is scaled.

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
    """

    similarity: float = 1.0
    smoothness: float = 1.0
    masks: float = 1.0
    volume: float = 0.1
    keypoints: tuple[float, ...] = (0.02, 0.02, 0.0)
    volume_threshold: tuple[float, ...] = (0.05, 0.1, 0.2)
    edge: float = 0.0
    edge_ratio: float = 1.0

    def __post_init__(self):
        """Refuses negative weights and thresholds outside (0, 1)."""
        for name in ("similarity", "smoothness", "masks", "volume", "edge", "edge_ratio"):
            value = getattr(self, name)
            _check(value >= 0, name, "a number >= 0", value, "0 switches the term off.")
        _check(
            all(weight >= 0 for weight in self.keypoints),
            "keypoints",
            "numbers >= 0",
            self.keypoints,
            "0 switches the term off.",
        )
        _check(
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
        epochs: passes over the training pairs, per level.
        batch: pairs a step.
        learning_rate: of Adam, at the start of a level.
        decay: share of it that is left at the end of the level (cosine); 1 keeps it, as the paper.
        seed: of the initial weights, the order of pairs and the augmentation.
        pairs: number of generated pairs, where the data is the phantom.
        validation_pairs: generated pairs kept apart.
        augment: whether pairs are changed at random on the device.
        log_every: steps between lines of the log.
        checkpoint_every: steps between checkpoints.
    """

    epochs: tuple[int, ...] = (25, 25, 25)
    batch: int = 1
    learning_rate: float = 1e-3
    decay: float = 1.0
    seed: int = 0
    pairs: int = 64
    validation_pairs: int = 4
    augment: bool = True
    log_every: int = 20
    checkpoint_every: int = 200

    def __post_init__(self):
        """Refuses counts that train nothing."""
        for name in ("batch", "pairs", "validation_pairs", "log_every", "checkpoint_every"):
            value = getattr(self, name)
            _check(value >= 1, name, "at least 1", value, "Give a positive number.")
        _check(
            self.learning_rate > 0, "learning_rate", "> 0", self.learning_rate, "Adam's is 1e-3."
        )
        _check(all(e >= 0 for e in self.epochs), "epochs", ">= 0 a level", self.epochs, "Use 25.")


PER_LEVEL = ("loss.keypoints", "loss.volume_threshold", "training.epochs")  # finest first


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
            _check(
                len(values) == levels,
                name,
                f"{levels} values, one a level",
                values,
                "Give one value for each level, finest first.",
            )


def to_json(config: Config | NetworkConfig) -> str:
    """Settings as JSON text, keys in the order of the class."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """Settings from JSON text.

    Raises:
        ValueError: the text is no JSON object, or a key or value is not a setting.
    """
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"config: expected JSON, got {text[:40]!r} ({error}).") from error
    return _build(Config, tree, "config")


def from_dict(tree: Mapping[str, Any]) -> Config:
    """Settings from nested dictionaries, as `dataclasses.asdict` makes them.

    Raises:
        ValueError: a key or value is not a setting.
    """
    return _build(Config, tree, "config")


def network_from_dict(tree: Mapping[str, Any]) -> NetworkConfig:
    """Network settings from a dictionary.

    Raises:
        ValueError: a key or value is not a setting.
    """
    return _build(NetworkConfig, tree, "network")


def load_config(path: str | Path) -> Config:
    """Settings of a Python file that defines `config = Config(...)`.

    Returns:
        That `config`.

    Raises:
        ValueError: no such file, a file without `config`, or a setting that does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"config: expected a Python file, got {path}, which is not a file.")
    spec = importlib.util.spec_from_file_location(f"jaxreg_config_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (TypeError, ValueError, SyntaxError, NameError, ImportError, AttributeError) as error:
        raise ValueError(f"config: {path}: {error}") from error
    config = getattr(module, "config", None)
    if not isinstance(config, Config):
        raise ValueError(f"config: expected {path} to set config = Config(...), got {config!r}.")
    return config


def _build(kind, tree, name):
    if not isinstance(tree, Mapping):
        raise ValueError(f"{name}: expected a mapping of settings, got {tree!r}.")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(set(tree) - set(fields))
    if unknown:
        raise ValueError(
            f"{name}: unknown key {', '.join(map(repr, unknown))}. Known keys: {', '.join(fields)}."
        )
    values = {}
    for key, value in tree.items():
        default = fields[key].default
        if dataclasses.is_dataclass(default):
            value = _build(type(default), value, f"{name}.{key}")
        elif isinstance(value, list):
            value = tuple(value)
        elif isinstance(default, float) and isinstance(value, int):
            value = float(value)
        if not isinstance(value, type(default)):
            raise ValueError(f"{name}.{key}: expected a value like {default!r}, got {value!r}.")
        values[key] = value
    return kind(**values)
