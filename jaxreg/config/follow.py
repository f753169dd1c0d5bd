"""Settings of following lesions from scan to scan."""

import dataclasses

from jaxreg.config.checks import check, ordered, positive, tuples


@dataclasses.dataclass(frozen=True)
class FollowConfig:
    """Lesions of the fixed image found in the moving one (`jaxreg.pipeline.follow`).

    Attributes:
        margin_mm: lesions, and this much around them, take no part in the registration, so that
            growth does not pull the field.
        search_mm: how far from where the field takes it a lesion is looked for.
        tolerance_mm: centres as near to where the field takes a lesion are that lesion.
        step_mm: least and greatest voxel on which lesions are delineated; half of the image's
            smallest voxel in between.
        reach_mm: half edge of the cube in which a lesion is delineated, and the greatest one.
        least_contrast_hu: of a lesion and the lung around it.
        least_radius_mm: of the largest ball within a lesion.
        openings: radii of the balls that cut vessels off, as fractions of that radius, in the
            order in which they are tried; what the last one leaves has no vessel, others are
            compared with it.
        most_cut: of the volume with an opening to that with the last one, beyond which a vessel is
            still attached.
        most_elongation: longest to shortest axis; beyond it, it is a vessel.
        least_change: of the volume, as a fraction, below which a lesion counts as stable.
        shell_mm: beyond that margin, in which the local volume change is taken.
        most_ratio: of both volumes, beyond which a match is doubtful.
        most_unlike: of the volumes of a label and of what is delineated there, beyond which that is
            not what was marked; a label may be wider or narrower by a voxel besides.
        least_inside: part of the smaller of both that lies in the other one, below which it is not
            what was marked either.
        least_quality: estimated probability of an error below 2 mm around a lesion, below which
            its match is doubtful.
    """

    margin_mm: float = 5.0
    search_mm: float = 10.0
    tolerance_mm: float = 5.0
    step_mm: tuple[float, float] = (0.5, 1.0)
    reach_mm: tuple[float, float] = (25.0, 60.0)
    least_contrast_hu: float = 150.0
    least_radius_mm: float = 1.3
    openings: tuple[float, ...] = (0.45, 0.6, 0.75, 0.9)
    most_cut: float = 1.4
    most_elongation: float = 2.2
    least_change: float = 0.25
    shell_mm: float = 10.0
    most_ratio: float = 8.0
    most_unlike: float = 3.0
    least_inside: float = 0.5
    least_quality: float = 0.3

    def __post_init__(self):
        """Refuses lengths and fractions out of range."""
        tuples(self, "step_mm", "reach_mm", "openings")
        positive(self, "search_mm", "tolerance_mm", "shell_mm", "least_contrast_hu")
        positive(self, "least_radius_mm")
        check(0 <= self.margin_mm <= 50, "margin_mm", "0 to 50 mm", self.margin_mm, "Use 5.")
        for name in ("step_mm", "reach_mm", "openings"):
            ordered(name, getattr(self, name))
        check(
            0 < min(self.openings) and max(self.openings) < 1,
            "openings",
            "fractions between 0 and 1",
            self.openings,
            "Use (0.45, 0.6, 0.75, 0.9).",
        )
        check(
            self.most_elongation > 1,
            "most_elongation",
            "a number above 1",
            self.most_elongation,
            "Use 2.2.",
        )
        check(
            len(self.openings) > 1,
            "openings",
            "two or more fractions",
            self.openings,
            "Use (0.45, 0.6, 0.75, 0.9).",
        )
        check(self.most_cut > 1, "most_cut", "a number above 1", self.most_cut, "Use 1.4.")
        check(self.most_ratio > 1, "most_ratio", "a number above 1", self.most_ratio, "Use 8.")
        check(self.most_unlike > 1, "most_unlike", "a number above 1", self.most_unlike, "Use 3.")
        check(
            0 <= self.least_inside < 1,
            "least_inside",
            "a fraction from 0 to 1",
            self.least_inside,
            "Use 0.5.",
        )
        check(
            0 < self.least_change < 1,
            "least_change",
            "a fraction between 0 and 1",
            self.least_change,
            "Use 0.25.",
        )
        check(
            0 <= self.least_quality < 1,
            "least_quality",
            "a fraction from 0 to 1",
            self.least_quality,
            "Use 0.3.",
        )
