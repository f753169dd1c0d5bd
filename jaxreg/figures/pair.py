"""The figure of one registration: three orthogonal views, before and after.

See `jaxreg.figures.views` for how planes, sides and colours are shown. Millimetres have one
scale in all planes.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jaxreg.figures.sheet import PANEL_INCH, bare, middle_of, name_row, sheet, write_figure
from jaxreg.figures.views import (
    DIFFERENCE,
    DIFFERENCE_COLOURS,
    LUNG_WINDOW,
    PLANES,
    QUALITY,
    QUALITY_COLOURS,
    VOLUME_CHANGE,
    VOLUME_COLOURS,
    cut,
    folds,
    mark_sides,
    shown_box,
    side_position,
    stored_box,
    upright,
    upright_spacing,
)
from jaxreg.geometry.grid import Box
from jaxreg.geometry.lung_grid import AIR_HU
from jaxreg.geometry.volume import Volume, require_same_grid, resample

Part = Callable[[Box], Volume]  # an image in a box of the fixed grid

_COLUMNS = (
    "fixed",
    "moving",
    "warped",
    "fixed − moving",
    "fixed − warped",
    "volume change",
    "quality",
)


def pair_figure(
    path: str | os.PathLike,
    *,
    fixed: Volume,
    moving: Volume,
    warped: Part,
    determinant: Part,
    matrix: np.ndarray | None = None,
    quality: Part | None = None,
    mask: Volume | None = None,
    title: str = "",
    lines: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> None:
    """Draws three orthogonal views of a registration, before and after, into an image file.

    Columns: fixed, moving and warped image (lung window -1000 to 200 HU), their differences, the
    Jacobian determinant (white where volume is kept, red where the field folds) and the quality.

    Args:
        path: file to write, .png, .pdf or .svg; never half-written.
        fixed: HU.
        moving: HU on its own grid.
        warped: moving image taken through the registration, in a box of the fixed grid.
        determinant: det(I + du/dx), in a box of the fixed grid.
        matrix: (4, 4), fixed world to moving world, RAS mm, such as the prealignment: where the
            moving image is shown; the identity if None.
        quality: 0 to 1, in a box of the fixed grid; no column for it if None.
        mask: lungs on the fixed grid, nonzero inside; planes go through their middle and views
            are cropped to them. The whole image if None.
        title: first line above the views.
        lines: smaller lines below it.
        warnings: texts below these, in red.
    """
    if mask is None:
        mask = Volume(np.ones(fixed.shape, np.uint8), fixed.affine)
    require_same_grid(fixed, mask, ("fixed", "mask"))
    lungs, spacing_mm = upright(mask) > 0, upright_spacing(fixed)
    box, centre = shown_box(lungs, spacing_mm), middle_of(lungs)
    parts = (fixed.part, warped, determinant, *([] if quality is None else [quality]))
    columns = _COLUMNS[: len(parts) + 3]

    def views(plane):
        """What is shown of each image in a plane, the moving one second, and the lungs."""
        index = centre[plane.normal]
        at = slice(index, index + 1)
        x, y, z = (at if axis == plane.normal else side for axis, side in enumerate(box))
        stored = stored_box(fixed, (x, y, z))
        first, *others = (cut(upright(part(stored)), plane, 0) for part in parts)
        small = fixed.grid.part(stored)
        moved = resample(moving, small.affine, small.shape, matrix=matrix, fill=AIR_HU)
        inside = cut(lungs[x, y, z], plane, 0)
        return [first, cut(upright(moved), plane, 0), *others], inside

    extents_mm = np.array([axis.stop - axis.start for axis in box]) * spacing_mm
    inch_by_mm = PANEL_INCH / max(extents_mm[plane.across] for plane in PLANES)
    heights = [extents_mm[plane.up] * inch_by_mm for plane in PLANES]
    figure, axes = sheet(heights, len(columns), title, lines, warnings)
    for plane, row in zip(PLANES, axes, strict=True):
        aspect = float(spacing_mm[plane.up] / spacing_mm[plane.across])
        _draw_row(row, *views(plane), aspect)
        mark_sides(row[0], plane)
        name = f"{plane.name}, right lung" if plane.normal == 0 else plane.name
        name_row(row[0], f"{name}\n{side_position(fixed, plane, centre)}")
    for axis, text in zip(axes[0], columns, strict=True):
        axis.set_title(text, fontsize=12, pad=4)
    _colour_bars(figure, axes)
    write_figure(path, figure, dpi=110)


def _draw_row(row: Sequence[Axes], images, lungs, aspect):
    """Panels of one plane."""
    fixed, moving, warped, determinant, *quality = images
    panels: list[Any] = [(image, "gray", LUNG_WINDOW) for image in (fixed, moving, warped)]
    panels += [(fixed - image, DIFFERENCE_COLOURS, DIFFERENCE) for image in (moving, warped)]
    panels.append((np.maximum(determinant, 1e-3), VOLUME_COLOURS, VOLUME_CHANGE))  # for the log
    panels += [(np.where(lungs, q, np.nan), QUALITY_COLOURS, QUALITY) for q in quality]
    for axis, (image, colours, norm) in zip(row, panels, strict=True):
        axis.imshow(image, cmap=colours, norm=norm, origin="lower", aspect=aspect)
    last = row[5]
    last.imshow(folds(determinant), origin="lower", aspect=aspect, interpolation="nearest")
    if lungs.any() and not lungs.all():
        last.contour(lungs, levels=[0.5], colors="black", linewidths=0.6)
    for axis in row:
        bare(axis)


def _colour_bars(figure, axes):
    """Scales below the last row: HU, difference in HU, volume change."""
    last = axes[-1]
    below = [
        (last[1], "HU", (-1000, -600, -200, 200)),
        (last[4], "difference, HU", (-600, -300, 0, 300, 600)),
        (last[5], "volume, moving / fixed; red: folded", (0.5, 0.7, 1, 1.4, 2)),
    ]
    below += [(axis, "chance of an error below 2 mm", (0, 0.5, 1)) for axis in last[6:]]
    height = figure.get_figheight()
    for axis, text, ticks in below:
        panel = axis.get_position(original=True)
        box = (panel.x0 + 0.1 * panel.width, 0.5 / height, 0.8 * panel.width, 0.11 / height)
        bar = figure.colorbar(
            axis.images[0], cax=figure.add_axes(box), orientation="horizontal", extend="both"
        )
        bar.set_ticks(list(ticks), labels=[f"{tick:g}" for tick in ticks])
        bar.ax.minorticks_off()
        bar.ax.tick_params(labelsize=10, length=2, pad=1)
        bar.set_label(text, fontsize=10, labelpad=1)
