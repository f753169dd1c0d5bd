"""The figure of a ventilation: each measure over the CT in three planes, and its histogram.

See `jaxreg.figures.views` for how planes and sides are shown.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from jaxreg.figures.sheet import (
    GAP_INCH,
    PANEL_INCH,
    bare,
    middle_of,
    name_row,
    sheet,
    write_figure,
)
from jaxreg.figures.views import (
    LUNG_WINDOW,
    PLANES,
    cut,
    mark_sides,
    shown_box,
    upright,
    upright_spacing,
)
from jaxreg.geometry.volume import Volume, require_same_grid

_TITLES = {
    "volume_jacobian": "volume, Jacobian",
    "volume_hu": "volume, HU",
    "air_jacobian": "air, Jacobian and HU",
    "air_hu": "air, HU",
}
_LOWEST = -0.5  # end of the scale, by its other end
_SHRINKS = "#ff5fc4"  # there; no edge at 0, where noise would look like holes
_VIRIDIS = matplotlib.colormaps["viridis"]
_COLOURS = LinearSegmentedColormap.from_list(
    "ventilation",
    [(0.0, _SHRINKS)]
    + [((x - _LOWEST) / (1.0 - _LOWEST), _VIRIDIS(x)) for x in np.linspace(0.0, 1.0, 64).tolist()],
    N=768,
)
_OPACITY = 0.8
_HISTOGRAM_INCH = 1.15
_SCALE_INCH = 0.75  # below the views
_BINS = 80
_LUNGS = (("right lung", "#d95f02"), ("left lung", "#3060c0"))
_ROUND = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0, 10.0)


def ventilation_figure(
    path: str | os.PathLike,
    *,
    fixed: Volume,
    maps: Mapping[str, Volume],
    units: Mapping[str, str],
    regions: Volume,
    title: str = "",
    lines: Sequence[str] = (),
    table: Sequence[tuple[str, str]] = (),
    warnings: Sequence[str] = (),
) -> None:
    """Draws three orthogonal views of each measure over the CT, and histograms of both lungs.

    Measures of one unit have one scale, which ends at about the 95th percentile of the larger one;
    below 0 it turns from dark to pink, without an edge.

    Args:
        path: file to write, .png, .pdf or .svg; never half-written.
        fixed: HU.
        maps: measures by name, on the grid of `fixed`.
        units: of the measures, by name.
        regions: 1 to 3 in the right lung, 4 to 6 in the left one, where it was measured; 0 where
            nothing is shown.
        title: first line above the views.
        lines: smaller lines below it.
        table: names and values, below the first column.
        warnings: texts below these, in red.
    """
    for volume, name in ((regions, "regions"), *((maps[name], name) for name in maps)):
        require_same_grid(fixed, volume, ("fixed", name))
    thirds, spacing_mm = upright(regions), upright_spacing(fixed)
    box, centre = shown_box(thirds > 0, spacing_mm), middle_of(thirds > 0)
    extents_mm = np.array([axis.stop - axis.start for axis in box]) * spacing_mm
    inch_by_mm = PANEL_INCH / max(extents_mm[plane.across] for plane in PLANES)
    heights = [extents_mm[plane.up] * inch_by_mm for plane in PLANES]
    bottom = _SCALE_INCH + _HISTOGRAM_INCH + 0.3
    figure, axes = sheet(heights, 1 + len(maps), title, lines, warnings, bottom=bottom)
    tops = _tops(maps, units, regions.data > 0)
    images = [upright(volume) for volume in (fixed, *maps.values())]
    for plane, row in zip(PLANES, axes, strict=True):
        shown = tuple(slice(None) if axis == plane.normal else box[axis] for axis in range(3))
        ct, *values = (cut(image[shown], plane, centre[plane.normal]) for image in images)
        hidden = cut(thirds[shown], plane, centre[plane.normal]) == 0
        aspect = float(spacing_mm[plane.up] / spacing_mm[plane.across])
        for axis in row:
            axis.imshow(ct, cmap="gray", norm=LUNG_WINDOW, origin="lower", aspect=aspect)
            bare(axis)
        for axis, image, name in zip(row[1:], values, maps, strict=True):
            masked = np.ma.masked_where(hidden, image)
            axis.imshow(
                masked,
                cmap=_COLOURS,
                norm=_scale(tops[units[name]]),
                origin="lower",
                aspect=aspect,
                alpha=_OPACITY,
                interpolation="nearest",
            )
        mark_sides(row[0], plane)
        name_row(row[0], f"{plane.name}, right lung" if plane.normal == 0 else plane.name)
    axes[0][0].set_title("fixed", fontsize=12, pad=4)
    voxel_ml = abs(np.linalg.det(fixed.affine[:3, :3])) / 1e3
    for column, name in enumerate(maps, start=1):
        axes[0][column].set_title(_TITLES.get(name, name), fontsize=12, pad=4)
        _colour_bar(figure, axes[-1][column], units[name], tops[units[name]])
        lungs = [maps[name].data[_in_lung(regions.data, lung)] for lung in range(2)]
        panel = _below(figure, axes[-1][column], first=column == 1)
        _draw_histogram(panel, lungs, voxel_ml, tops[units[name]], first=column == 1)
    _write_table(figure, axes[-1][0], table)
    write_figure(path, figure, dpi=110)


def _write_table(figure: Figure, panel: Axes, table: Sequence[tuple[str, str]]) -> None:
    """Two columns of words below the first panel."""
    box, (width, height) = panel.get_position(original=True), figure.get_size_inches()
    for i, (name, value) in enumerate(table):
        y = box.y0 - (0.35 + 0.2 * i) / height
        style: dict[str, Any] = {"fontsize": 9.5, "color": "0.25", "va": "baseline"}
        figure.text(box.x0 + 0.1 / width, y, name, **style)
        figure.text(box.x1 - 0.2 / width, y, value, ha="right", **style)


def _in_lung(regions, lung):
    """Where the right (0) or the left (1) lung was measured."""
    return (regions > 3 * lung) & (regions <= 3 * lung + 3)


def _tops(maps, units, measured) -> dict[str, float]:
    """Where the scale of each unit ends: at a round number above the 95th percentile."""
    tops: dict[str, float] = {}
    for name, volume in maps.items():
        top = float(np.percentile(volume.data[measured], 95))
        tops[units[name]] = max(tops.get(units[name], 0.0), top)
    return {unit: _rounded(top) for unit, top in tops.items()}


def _rounded(top: float) -> float:
    """The least round number that is not below `top`; 0.1 if that is not positive."""
    if not top > 0:
        return 0.1
    power = 10.0 ** np.floor(np.log10(top))
    return float(power * next(step for step in _ROUND if power * step >= top * (1 - 1e-9)))


def _scale(top: float) -> Normalize:
    return Normalize(_LOWEST * top, top)


def _colour_bar(figure: Figure, panel: Axes, unit: str, top: float) -> None:
    box, height = panel.get_position(original=True), figure.get_figheight()
    where = (box.x0 + 0.1 * box.width, box.y0 - 0.22 / height, 0.8 * box.width, 0.11 / height)
    bar = figure.colorbar(
        ScalarMappable(_scale(top), _COLOURS),
        cax=figure.add_axes(where),
        orientation="horizontal",
        extend="both",
    )
    ticks = (_LOWEST * top, 0.0, top / 2, top)
    bar.set_ticks(list(ticks), labels=[f"{tick:g}" for tick in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=10, length=2, pad=1)
    bar.set_label(f"{unit}; pink: below 0", fontsize=10, labelpad=1)


def _below(figure: Figure, panel: Axes, *, first: bool) -> Axes:
    """Axes of a histogram, below the scale of a column."""
    box, width, height = panel.get_position(original=True), *figure.get_size_inches()
    low = box.y0 - (_SCALE_INCH + _HISTOGRAM_INCH) / height
    inset = (0.42 if first else 0.2) / width  # room for numbers, and for the name of the axis
    return figure.add_axes(
        (box.x0 + inset, low, box.width - inset - GAP_INCH / width, _HISTOGRAM_INCH / height)
    )


def _draw_histogram(axis: Axes, lungs, voxel_ml: float, top: float, *, first: bool) -> None:
    """Volume of each lung by the measure; what lies beyond the ends is counted at them."""
    edges = np.linspace(-0.5 * top, 1.45 * top, _BINS + 1)  # no number at the very end
    for values, (name, colour) in zip(lungs, _LUNGS, strict=True):
        if not len(values):
            continue
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        median = float(np.median(values))
        axis.stairs(counts * voxel_ml, edges, color=colour, label=f"{name}: {median:.3f}")
        axis.axvline(median, color=colour, linewidth=0.8, linestyle=":")
    axis.axvline(0, color="0.6", linewidth=0.8)
    axis.margins(x=0)
    axis.set_ylim(0, axis.get_ylim()[1] * 1.6)
    axis.tick_params(labelsize=8, length=2, pad=1)
    axis.spines[["top", "right"]].set_visible(False)
    if first:
        axis.set_ylabel("lung, ml", fontsize=9, labelpad=1)
    axis.legend(
        fontsize=8, frameon=False, title="median", title_fontsize=8, loc="upper right",
        borderaxespad=0, handlelength=1,
    )  # fmt: skip
