"""The figure of lesions that were followed: a row a lesion, an axial cut of each image.

See `jaxreg.figures.views` for how sides are shown.
"""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from jaxreg.figures.sheet import PANEL_INCH, bare, sheet, write_figure
from jaxreg.figures.views import LUNG_WINDOW, PLANES, cut, mark_sides
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.lung_grid import AIR_HU
from jaxreg.geometry.volume import Volume, resample

_TITLES = ("fixed", "moving", "moving, warped")
_HALF_MM = 30.0
_PIXEL_MM = 0.5
_AXIAL = PLANES[1]
_MOST_ROWS = 60
_COLOUR, _PLACE = "#ffd34d", "#40c4ff"


def lesions_figure(
    path: str | os.PathLike,
    *,
    images: Sequence[Volume],
    places_mm: Sequence[Sequence[np.ndarray]],
    masks: Sequence[Sequence[Volume | None]],
    doubted: Sequence[Sequence[int]],
    labels: Sequence[Sequence[Volume | None]],
    texts: Sequence[Sequence[str]],
    title: str = "",
    lines: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> None:
    """Draws axial cuts through lesions, their outlines, and a few words beside each.

    Args:
        path: file to write, .png, .pdf or .svg; never half-written.
        images: fixed, moving and warped image, HU.
        places_mm: of each lesion where each of these is cut, (3,), RAS mm.
        masks: of each lesion in the fixed and in the moving image, nonzero inside; None where there
            is none, and the place is marked by a cross. Over the warped image that of the fixed
            one is drawn.
        doubted: of each lesion, which of both masks may be of something else; these are dashed.
        labels: of each lesion as it was marked in both images, nonzero inside; dotted. None where
            it was not.
        texts: of each lesion.
        title: first line above the cuts.
        lines: smaller lines below it.
        warnings: texts below these, in red.
    """
    shown = min(len(places_mm), _MOST_ROWS)
    if shown < len(places_mm):
        lines = [*lines, f"the first {shown} are shown"]
    figure, rows = sheet([PANEL_INCH] * shown, 4, title, lines, warnings, bottom=0.1)
    for row, places, outlined, doubt, marked, words in zip(
        rows, places_mm, masks, doubted, labels, texts, strict=False
    ):
        for axis, image, place, scan in zip(row, images, places, (0, 1, 0), strict=False):
            style = "dashed" if scan in doubt else "solid"
            _draw(axis, image, place, outlined[scan], marked[scan], style)
        mark_sides(row[0], _AXIAL)
        row[3].axis("off")
        text = "\n".join(words)
        row[3].text(0.04, 0.96, text, va="top", fontsize=10, linespacing=1.5, parse_math=False)
    for axis, name in zip(rows[0], _TITLES, strict=False):
        axis.set_title(name, fontsize=12, pad=4)
    write_figure(path, figure, dpi=100)


def _draw(
    axis: Axes,
    image: Volume,
    place: np.ndarray,
    mask: Volume | None,
    label: Volume | None,
    style: str,
) -> None:
    """One cut through a place, 60 mm wide, with the outline in a style of line, and the label."""
    count = 2 * round(_HALF_MM / _PIXEL_MM) + 1
    affine = np.diag([_PIXEL_MM, _PIXEL_MM, _PIXEL_MM, 1.0])
    affine[:3, 3] = place - (_HALF_MM, _HALF_MM, 0.0)
    grid = Grid((count, count, 1), affine)

    def shown(volume: Volume, fill: float) -> np.ndarray:
        return cut(resample(volume, grid.affine, grid.shape, fill=fill).data, _AXIAL, 0)

    axis.imshow(shown(image, AIR_HU), cmap="gray", norm=LUNG_WINDOW, origin="lower")
    for drawn, colour, line in ((label, _PLACE, "dotted"), (mask, _COLOUR, style)):
        if drawn is not None:
            inside = shown(Volume(drawn.data.astype(np.float32), drawn.affine), 0.0)
            if inside.max() > 0.5 > inside.min():
                axis.contour(inside, levels=[0.5], colors=colour, linewidths=0.9, linestyles=line)
    if mask is None:
        middle = (count - 1) / 2
        axis.plot(middle, middle, "+", color=_PLACE, markersize=14, markeredgewidth=0.9)
    bare(axis)
