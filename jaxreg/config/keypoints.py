"""Settings of the detection and matching of keypoints."""

import dataclasses

from jaxreg.config.checks import check, ordered, positive, tuples


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
