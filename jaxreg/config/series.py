"""Settings of a series of phases."""

import dataclasses

from jaxreg.config.checks import check


@dataclasses.dataclass(frozen=True)
class SeriesConfig:
    """How the phases of a series are brought together (`jaxreg.pipeline.series`).

    Attributes:
        cyclic: whether the last phase is followed by the first, as in a respiratory
            cycle.
        smoothness: weight of third differences in time (`jaxreg.ops.temporal`); 0 leaves each phase
            as it was registered.
        least_motion_mm: peak-to-peak motion below which the delay of a point is not computed.
    """

    cyclic: bool = True
    smoothness: float = 0.02
    least_motion_mm: float = 1.0

    def __post_init__(self):
        """Refuses negative weights and lengths."""
        for name in ("smoothness", "least_motion_mm"):
            value = getattr(self, name)
            check(value >= 0, f"series.{name}", "a number >= 0", value, "Use the default.")
