"""Pictures of a registration, drawn without a display.

Planes are shown as a radiologist sees them: the patient's right on the left, head and front at the
top; in sagittal planes the front on the left. Oblique images are shown along their own axes, with
the letters of the closest directions. Millimetres have one scale in all planes.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from nibabel.orientations import apply_orientation, io_orientation

from jaxreg.data.atomic import replacing
from jaxreg.data.volume import Volume, require_same_grid, resample

_AIR_HU = -1024.0
_LUNG_WINDOW = Normalize(-1000.0, 200.0)  # HU
_DIFFERENCE = Normalize(-600.0, 600.0)  # HU
_VOLUME_CHANGE = LogNorm(0.5, 2.0)  # det, so that halving and doubling are equally strong
_VOLUME_COLOURS = LinearSegmentedColormap.from_list(
    "volume change", ["#08306b", "#4292c6", "#ffffff", "#f5c518", "#6b4a00"]
)
_FOLD_COLOUR = (0.86, 0.0, 0.0)
_MARGIN_MM = 15.0  # shown around the lungs
_PANEL_INCH = 2.75  # width of the widest plane
_GAP_INCH = 0.06
_COLUMNS = (
    "fixed",
    "moving",
    "warped",
    "fixed − moving",
    "fixed − warped",
    "volume change",
)


class _Plane(NamedTuple):
    """A plane of an array with axes (right, anterior, superior).

    Attributes:
        name: of the plane.
        normal: axis that is cut.
        across: axis that runs from the right of the picture to its left.
        up: axis that runs upwards.
        letters: of the patient at the left, right, top and bottom of the picture.
    """

    name: str
    normal: int
    across: int
    up: int
    letters: str


_PLANES = (
    _Plane("coronal", 1, 0, 2, "RLSI"),
    _Plane("axial", 2, 0, 1, "RLAP"),
    _Plane("sagittal, right lung", 0, 1, 2, "APSI"),
)


def report_picture(
    path: str | os.PathLike,
    *,
    fixed: Volume,
    moving: Volume,
    warped: Volume,
    determinant: Volume,
    mask: Volume | None = None,
    title: str = "",
    lines: Sequence[str] = (),
) -> None:
    """Draws three planes of a registration, before and after, into an image file.

    Columns: fixed, moving and warped image (lung window -1000 to 200 HU), their differences, and
    the Jacobian determinant: white where volume is kept, red where the field folds.

    Args:
        path: file to write, .png, .pdf or .svg; written beside its place and renamed.
        fixed: HU.
        moving: HU on its own grid; shown at the fixed image's world positions.
        warped: moving image taken through the registration, on the fixed grid.
        determinant: det(I + du/dx) on the fixed grid.
        mask: lungs on the fixed grid, nonzero inside; planes go through their middle and pictures
            are cropped to them. The whole image if None.
        title: first line above the pictures.
        lines: smaller lines below it.
    """
    if mask is None:
        mask = Volume(np.ones(fixed.shape, np.uint8), fixed.affine)
    for volume, name in ((warped, "warped"), (determinant, "determinant"), (mask, "mask")):
        require_same_grid(fixed, volume, ("fixed", name))
    moving = resample(moving, fixed.affine, fixed.shape, fill=_AIR_HU)

    images = [_upright(volume) for volume in (fixed, moving, warped, determinant)]
    lungs = _upright(mask) > 0
    spacing_mm = np.asarray(fixed.spacing_mm)[np.argsort(io_orientation(fixed.affine)[:, 0])]
    box, centre = _view(lungs, spacing_mm)
    extents_mm = np.array([axis.stop - axis.start for axis in box]) * spacing_mm

    inch_by_mm = _PANEL_INCH / max(extents_mm[plane.across] for plane in _PLANES)
    heights = [extents_mm[plane.up] * inch_by_mm for plane in _PLANES]
    figure, axes = _sheet(heights, title, lines)
    for plane, row in zip(_PLANES, axes, strict=True):
        cut = [_cut(image, plane, box, centre) for image in images]
        aspect = float(spacing_mm[plane.up] / spacing_mm[plane.across])
        _draw_row(row, cut, _cut(lungs, plane, box, centre), aspect)
        _label(row[0], plane)
    for axis, text in zip(axes[0], _COLUMNS, strict=True):
        axis.set_title(text, fontsize=10, pad=4)
    _colour_bars(figure, axes)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, facecolor="white")


def _upright(volume):
    """The array with axes that run closest to right, anterior and superior."""
    return apply_orientation(volume.data, io_orientation(volume.affine))


def _view(lungs, spacing_mm):
    """What is shown: a box around the lungs, and the voxel that the three planes go through."""
    inside = np.argwhere(lungs)
    if len(inside) == 0:
        raise ValueError(
            "mask: expected lungs, got no voxel above 0. Leave the mask out to see the whole image."
        )
    margin = np.ceil(_MARGIN_MM / spacing_mm).astype(int)
    low = np.maximum(inside.min(axis=0) - margin, 0)
    high = np.minimum(inside.max(axis=0) + margin + 1, lungs.shape)
    centre = inside.mean(axis=0)
    centre[0] = inside[inside[:, 0] >= centre[0], 0].mean()  # sagittal: not between the lungs
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return box, np.rint(centre).astype(int)


def _cut(image, plane, box, centre):
    """One plane within the box as rows from the bottom up, columns from left to right."""
    index = list(box)
    index[plane.normal] = centre[plane.normal]
    cut = image[tuple(index)]  # the remaining axes keep their order: (across, up)
    return cut[::-1].T


def _sheet(heights, title, lines):
    """A figure with one row of panels a plane, heights in inches, and the words above them."""
    left, top, bottom = 0.45, 0.75 + 0.19 * len(lines), 0.75
    count = len(_COLUMNS)
    width = left + count * (_PANEL_INCH + _GAP_INCH) + 0.1
    height = top + sum(heights) + _GAP_INCH * (len(heights) - 1) + bottom
    figure = Figure(figsize=(width, height))
    figure.text(left / width, 1 - 0.32 / height, title, fontsize=15, weight="bold")
    for i, line in enumerate(lines):
        figure.text(left / width, 1 - (0.58 + 0.19 * i) / height, line, fontsize=10, color="0.25")
    axes, y = [], height - top
    for panel in heights:
        y -= panel
        row = []
        for column in range(count):
            x = left + column * (_PANEL_INCH + _GAP_INCH)
            box = (x / width, y / height, _PANEL_INCH / width, panel / height)
            row.append(figure.add_axes(box))
        axes.append(row)
        y -= _GAP_INCH
    return figure, axes


def _draw_row(row: Sequence[Axes], cut, lungs, aspect):
    """Six panels of one plane; all start at the bottom left."""
    fixed, moving, warped, determinant = cut
    panels = [(image, "gray", _LUNG_WINDOW) for image in (fixed, moving, warped)]
    panels += [(fixed - image, "RdBu_r", _DIFFERENCE) for image in (moving, warped)]
    for axis, (image, colours, norm) in zip(row, panels, strict=False):
        axis.imshow(image, cmap=colours, norm=norm, origin="lower", aspect=aspect)
    last = row[-1]
    positive = np.maximum(determinant, 1e-3)  # a logarithm follows
    last.imshow(positive, cmap=_VOLUME_COLOURS, norm=_VOLUME_CHANGE, origin="lower", aspect=aspect)
    folded = np.zeros((*determinant.shape, 4))
    folded[~(determinant > 0)] = (*_FOLD_COLOUR, 1.0)
    last.imshow(folded, origin="lower", aspect=aspect, interpolation="nearest")
    if lungs.any() and not lungs.all():
        last.contour(lungs, levels=[0.5], colors="black", linewidths=0.6)
    for axis in row:
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set(color="0.75", linewidth=0.5)


def _label(axis: Axes, plane):
    """Name of the plane beside it, letters of the patient's sides in it."""
    box = axis.get_position(original=True)
    middle = box.y0 + box.height / 2
    axis.figure.text(box.x0 - 0.009, middle, plane.name, rotation=90, va="center", ha="center")
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))
    sides = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
    for letter, (x, y), (ha, va) in zip(plane.letters, places, sides, strict=True):
        text = axis.text(x, y, letter, transform=axis.transAxes, ha=ha, va=va, fontsize=9)
        text.set(color="#ffd34d", path_effects=[withStroke(linewidth=2, foreground="black")])


def _colour_bars(figure, axes):
    """Scales below the last row: HU, difference in HU, volume change."""
    last = axes[-1]
    below = (
        (last[1], last[1].images[0], "HU", (-1000, -600, -200, 200)),
        (last[4], last[4].images[0], "difference, HU", (-600, -300, 0, 300, 600)),
        (last[5], last[5].images[0], "Jacobian determinant; red: folded", (0.5, 0.7, 1, 1.4, 2)),
    )
    height = figure.get_figheight()
    for axis, image, text, ticks in below:
        place = axis.get_position()
        box = (place.x0 + 0.1 * place.width, 0.5 / height, 0.8 * place.width, 0.11 / height)
        bar = figure.colorbar(
            image, cax=figure.add_axes(box), orientation="horizontal", extend="both"
        )
        bar.set_ticks(list(ticks), labels=[f"{tick:g}" for tick in ticks])
        bar.ax.minorticks_off()
        bar.ax.tick_params(labelsize=8, length=2, pad=1)
        bar.set_label(text, fontsize=9, labelpad=1)
