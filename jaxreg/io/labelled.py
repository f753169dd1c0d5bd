"""Points of one image, with labels and the file that they came from."""

import dataclasses
from typing import Any

import numpy as np

SIGNS = {"RAS": np.array([1.0, 1.0, 1.0]), "LPS": np.array([-1.0, -1.0, 1.0])}
DECIMALS = 4  # of millimetres in files


@dataclasses.dataclass(frozen=True, eq=False)
class PointList:
    """Points of one image.

    Attributes:
        points: (N, 3), RAS mm.
        ids: of each point; "" where the file has none.
        labels: of each point; "" where the file has none.
        space: "RAS" or "LPS", of the file.
        source: format of the file and its content, for a writer of the same format.
    """

    points: np.ndarray
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    space: str
    source: tuple[str, Any]

    def __post_init__(self):
        """Checks that there are points, and that they are finite."""
        if len(self.points) == 0:
            raise ValueError("expected points, got none. Add one at least.")
        if not np.all(np.isfinite(self.points)):
            raise ValueError("expected finite coordinates, got NaN or infinity. Remove them.")


def written(points: np.ndarray, space: str) -> list[list[float]]:
    """Coordinates as a file has them, rounded.

    Args:
        points: (N, 3), RAS mm.
        space: "RAS" or "LPS", of the file.

    Returns:
        N lists of three numbers, mm.
    """
    return (np.round(points * SIGNS[space], DECIMALS) + 0.0).tolist()  # + 0.0: no -0.0
