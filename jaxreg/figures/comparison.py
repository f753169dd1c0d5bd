"""Figures of several registrations: volume change over slices, images before and after.

After figures 6 and 8 of Hering et al. 2021 (doi 10.1016/j.media.2021.102139); coronal slices, shown
as `jaxreg.figures.views` says. A row may be a method on one case, or a case of one method.
"""

import os
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from jaxreg.figures.sheet import write_figure
from jaxreg.figures.thumbnails import Thumbnail, determinant_values, image_hu
from jaxreg.figures.views import (
    DIFFERENCE,
    DIFFERENCE_COLOURS,
    LUNG_WINDOW,
    PLANES,
    VOLUME_CHANGE,
    VOLUME_COLOURS,
    cut,
    folds,
    mark_sides,
)

_CORONAL = PLANES[0]
_PANEL_INCH = 2.0  # width of a slice
_SLICES = 5
_BEHIND = Normalize(-1000.0, 1000.0)  # HU; tissue darker than the white of a kept volume


def jacobian_figure(path: str | os.PathLike, by_name: Mapping[str, Thumbnail]) -> None:
    """Draws the Jacobian determinant in the lungs over five coronal slices, front to back.

    Colours lie over the fixed image: white keeps its volume, blue is smaller in the moving image,
    yellow larger; red folds, also outside of the lungs.

    Args:
        path: file to write, .png, .pdf or .svg.
        by_name: at least one thumbnail, a row each.
    """
    figure, axes = _sheet(by_name)
    for row, thumbnail in zip(axes, by_name.values(), strict=True):
        depth = np.flatnonzero(thumbnail.lungs.any(axis=(0, 2)))
        indices = np.quantile(depth, (np.arange(_SLICES)[::-1] + 0.5) / _SLICES, method="nearest")
        for axis, index in zip(row, indices, strict=True):
            fixed, codes, lungs = (
                cut(image, _CORONAL, int(index))
                for image in (thumbnail.fixed, thumbnail.determinant, thumbnail.lungs)
            )
            change = determinant_values(codes)
            axis.imshow(image_hu(fixed), cmap="gray", norm=_BEHIND, origin="lower")
            shown = np.ma.masked_where(lungs == 0, np.maximum(change, 0.1))  # for the logarithm
            axis.imshow(shown, cmap=VOLUME_COLOURS, norm=VOLUME_CHANGE, origin="lower")
            axis.imshow(folds(change), origin="lower", interpolation="nearest")
    for axis, text in zip(axes[0], ("front", "", "", "", "back"), strict=True):
        axis.set_title(text, fontsize=11)
    text = "volume in moving / in fixed (Jacobian determinant); red: folded"
    _colour_bar(figure, axes, axes[0][0].images[1], text, (0.5, 0.7, 1, 1.4, 2))
    write_figure(path, figure, dpi=130)


def image_figure(path: str | os.PathLike, by_name: Mapping[str, Thumbnail]) -> None:
    """Draws the middle coronal slice in five columns, images and differences before and after.

    Args:
        path: file to write, .png, .pdf or .svg.
        by_name: at least one thumbnail, a row each.
    """
    figure, axes = _sheet(by_name)
    for row, thumbnail in zip(axes, by_name.values(), strict=True):
        index = int(np.median(np.argwhere(thumbnail.lungs)[:, 1]))
        fixed, moving, warped = (
            image_hu(cut(image, _CORONAL, index))
            for image in (thumbnail.fixed, thumbnail.moving, thumbnail.warped)
        )
        for axis, image in zip(row, (fixed, moving, warped), strict=False):
            axis.imshow(image, cmap="gray", norm=LUNG_WINDOW, origin="lower")
        for axis, image in zip(row[3:], (moving, warped), strict=True):
            axis.imshow(fixed - image, cmap=DIFFERENCE_COLOURS, norm=DIFFERENCE, origin="lower")
    columns = ("fixed", "moving", "warped", "fixed − moving", "fixed − warped")
    for axis, text in zip(axes[0], columns, strict=True):
        axis.set_title(text, fontsize=11)
    first = axes[0]
    _colour_bar(figure, axes[:, :3], first[0].images[0], "HU", (-1000, -600, -200, 200))
    differences = (-600, -300, 0, 300, 600)
    _colour_bar(figure, axes[:, 3:], first[3].images[0], "difference, HU", differences)
    write_figure(path, figure, dpi=130)


def _sheet(by_name):
    """A figure and its axes, (rows, 5), each row as high as its slices are."""
    heights = [s.lungs.shape[2] / s.lungs.shape[0] * _PANEL_INCH for s in by_name.values()]
    figure = Figure(
        figsize=(5 * (_PANEL_INCH + 0.06) + 0.4, sum(heights) + 0.06 * len(heights) + 1.1),
        layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.05, wspace=0, hspace=0),
    )
    axes = figure.subplots(len(heights), 5, squeeze=False, height_ratios=heights)
    for row, name in zip(axes, by_name, strict=True):
        row[0].set_ylabel(name, fontsize=11, parse_math=False)
        mark_sides(row[0], _CORONAL)
        for axis in row:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(color="0.75", linewidth=0.5)
    return figure, axes


def _colour_bar(figure, axes, image, text, ticks):
    bar = figure.colorbar(
        image, ax=axes, location="bottom", extend="both", aspect=40, shrink=0.7, pad=0.02
    )
    bar.set_ticks(list(ticks), labels=[f"{tick:g}" for tick in ticks])
    bar.ax.minorticks_off()
    bar.set_label(text, fontsize=10)
