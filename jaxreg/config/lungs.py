"""Settings of the segmentation of the lungs."""

import dataclasses

from jaxreg.config.checks import check, ordered, positive, tuples


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
        core_mm: depth from which on the tissue around a component does not blur into it.
        gas_contrast_hu: by how much the inside of a small component is darker than that of the
            largest if it is gas (and below `small_gas_hu`).
        small_share: of all air; a component with less is small.
        lung_share: of the inside of a component that is not small; with more of it above `gas_hu`
            the component holds lung, whatever its median.
        least_share: of the largest component; another with less cannot be a lung.
        least_depth: fraction of the greatest distance from a point of the lungs to their surface
            that each component reaches; a shallower one is gas of the bowel, foam or clothes.
        cut_share: of a component within the body; with more, what lies outside may belong to it,
            where the volume cuts a lung at a corner.
        piece_share: of the lungs; a piece of them with more can be one side.
        closing_mm: vessels, airways and nodules up to twice this width are closed.
        hole_mm2: area in an axial slice up to which tissue with lung all around belongs to the
            lung; a larger one is the dome of the diaphragm, or a mass that reaches out of the lung.
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
        trachea_fill: least fraction of a cross-section in its bounding box.
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
    core_mm: float = 5.0
    gas_contrast_hu: float = 60.0
    small_share: float = 0.1
    lung_share: float = 0.25
    least_share: float = 0.05
    least_depth: float = 0.33
    cut_share: float = 0.1
    piece_share: float = 0.1
    closing_mm: float = 6.5
    hole_mm2: float = 400.0
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
        positive(self, "core_mm", "gas_contrast_hu", "hole_mm2")
        tuples(self, "airways_hu", "airways_reach_mm", "trachea_mm2", "window_hu")
        shares = ("small_share", "lung_share", "least_share", "cut_share", "piece_share")
        for name in (*shares, "back_share", "side_share", "least_depth", "trachea_fill"):
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
