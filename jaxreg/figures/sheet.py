"""A sheet of orthogonal views: rows of panels, one row a plane, with words above them."""

import os
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxreg.io.atomic import replacing

PANEL_INCH = 2.75  # width of the widest plane
GAP_INCH = 0.06
_LEFT_INCH = 0.45
_LABEL_INCH = 0.07  # from the label of a row to its first panel
_LETTERS_PER_INCH = 11  # of the lines above the views
_WARNING_COLOUR = "#b00020"


def middle_of(lungs: np.ndarray) -> list[int]:
    """The voxel that the three planes go through: the lungs' middle, within the right one.

    Args:
        lungs: true inside, (X, Y, Z), axes along RAS, not empty.

    Returns:
        Its indices.
    """
    counts = [lungs.sum(axis=others) for others in ((1, 2), (0, 2), (0, 1))]
    centre = [float(np.average(np.arange(len(n)), weights=n)) for n in counts]
    right = np.arange(len(counts[0])) >= centre[0]  # sagittal: not between the lungs
    centre[0] = float(np.average(np.flatnonzero(right), weights=counts[0][right]))
    return [int(index) for index in np.rint(centre)]


def sheet(
    heights: Sequence[float],
    count: int,
    title: str,
    lines: Sequence[str],
    warnings: Sequence[str],
    *,
    bottom: float = 0.75,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with one row of panels a plane, and the words above them.

    Args:
        heights: of the rows, inches.
        count: of the panels in a row.
        title: first line.
        lines: smaller lines below it.
        warnings: texts below these, in red.
        bottom: free space below the panels, inches.

    Returns:
        The figure, and its panels by rows.
    """
    width = _LEFT_INCH + count * (PANEL_INCH + GAP_INCH) + 0.1
    texts = [(line, "0.25") for line in lines]
    texts += [(f"warning: {text}", _WARNING_COLOUR) for text in warnings]
    words = [
        (line, colour)
        for text, colour in texts
        for line in textwrap.wrap(text, int(width * _LETTERS_PER_INCH))
    ]
    top = 0.75 + 0.19 * len(words)
    height = top + sum(heights) + GAP_INCH * (len(heights) - 1) + bottom
    figure = Figure(figsize=(width, height))
    plain: dict[str, Any] = {"parse_math": False}  # a "$" in the name of a case is a "$"
    figure.text(_LEFT_INCH / width, 1 - 0.32 / height, title, fontsize=15, weight="bold", **plain)
    for i, (line, colour) in enumerate(words):
        y = 1 - (0.58 + 0.19 * i) / height
        figure.text(_LEFT_INCH / width, y, line, fontsize=10, color=colour, **plain)
    axes, y = [], height - top
    for panel in heights:
        y -= panel
        row = []
        for column in range(count):
            x = _LEFT_INCH + column * (PANEL_INCH + GAP_INCH)
            box = (x / width, y / height, PANEL_INCH / width, panel / height)
            row.append(figure.add_axes(box))
        axes.append(row)
        y -= GAP_INCH
    return figure, axes


def name_row(axis: Axes, name: str) -> None:
    """Writes the label of a row beside its first panel.

    Args:
        axis: of the panel.
        name: the label, in one or two lines.
    """
    box = axis.get_position(original=True)
    middle = box.y0 + box.height / 2
    figure = axis.get_figure(root=True)
    assert figure is not None
    x = box.x0 - _LABEL_INCH / figure.get_figwidth()
    style: dict[str, Any] = {"va": "center", "ha": "right", "multialignment": "center"}
    figure.text(x, middle, name, rotation=90, fontsize=11, linespacing=1.1, **style)


def bare(axis: Axes) -> None:
    """Takes the ticks off a panel and thins its border."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(color="0.75", linewidth=0.5)


def write_figure(path: str | os.PathLike, figure: Figure, *, dpi: int) -> None:
    """Writes a figure on white.

    Args:
        path: .png, .pdf or .svg; never half-written.
        figure: to write.
        dpi: pixels per inch.
    """
    fast: dict[str, Any] = {}
    if str(path).lower().endswith(".png"):  # a tenth larger, in half of the time
        fast = {"pil_kwargs": {"compress_level": 3}}
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, facecolor="white", **fast)
