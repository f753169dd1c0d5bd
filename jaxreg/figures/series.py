"""The page of a series: its phases in a loop, before and after they are brought together."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from jaxreg.figures.page import data_uri, template
from jaxreg.figures.sheet import middle_of
from jaxreg.figures.views import (
    PLANES,
    WINDOW_HU,
    cut,
    shown_box,
    upright,
    upright_affine,
    upright_spacing,
)
from jaxreg.geometry.lung_grid import AIR_HU
from jaxreg.geometry.volume import Volume, resample
from jaxreg.io.atomic import replacing

_PIXEL_MM = 1.0
_MOST_PIXELS = 420  # along an axis of a view
_SHOWN = PLANES[0], PLANES[2]  # coronal and sagittal: respiratory motion is seen in both
_MOTION_COLOURS = "inferno"


class SeriesView:
    """Two planes through the lungs of a reference, and what has been seen of each phase.

    Attributes:
        frames: of each phase, its planes as HU or mm arrays, rows from the bottom up: {"phase",
            "warped", "motion"} to (coronal, sagittal).
    """

    def __init__(self, fixed: Volume, lungs: Volume):
        """Chooses the planes: through the middle of the lungs, the sagittal one in the right."""
        inside = upright(lungs) > 0
        spacing = upright_spacing(fixed)
        box = shown_box(inside, spacing)
        centre = middle_of(inside)
        start = np.array([axis.start for axis in box], float)
        extent_mm = (np.array([axis.stop for axis in box]) - start) * spacing
        pixel_mm = max(_PIXEL_MM, float(extent_mm.max()) / _MOST_PIXELS)
        self.frames: list[dict[str, tuple[np.ndarray, ...]]] = []
        self._planes = []
        for plane in _SHOWN:
            affine, shape, corner = upright_affine(fixed), [1, 1, 1], start.copy()
            corner[plane.normal] = centre[plane.normal]
            scale = np.ones(3)
            for axis in (plane.across, plane.up):
                scale[axis] = pixel_mm / spacing[axis]
                shape[axis] = max(1, int(extent_mm[axis] / pixel_mm))
            step = np.diag([*scale, 1.0])
            step[:3, 3] = corner
            self._planes.append((affine @ step, tuple(shape)))
        self._lungs = self._seen(lungs, fill=0.0)

    def add(self, phase: Volume, warped: Volume, length_mm: Volume) -> None:
        """Adds a phase.

        Args:
            phase: the image, HU.
            warped: the image warped to the reference, HU.
            length_mm: length of the displacement, on the grid of the reference.
        """
        self.frames.append(
            {
                "phase": self._seen(phase, fill=AIR_HU),
                "warped": self._seen(warped, fill=AIR_HU),
                "motion": tuple(
                    image * (lungs > 0)
                    for image, lungs in zip(
                        self._seen(length_mm, fill=0.0), self._lungs, strict=True
                    )
                ),
            }
        )

    def _seen(self, volume: Volume, *, fill: float) -> tuple[np.ndarray, ...]:
        return tuple(
            cut(resample(volume, affine, shape, fill=fill).data, plane, 0)
            for plane, (affine, shape) in zip(_SHOWN, self._planes, strict=True)
        )

    def images(self, largest_mm: float) -> list[dict[str, list[str]]]:
        """Images of all phases as data URIs; colours of motion go from 0 to `largest_mm`."""
        return [
            {
                "phase": [_jpeg(_grey(image)) for image in frame["phase"]],
                "warped": [_jpeg(_grey(image)) for image in frame["warped"]],
                "motion": [
                    _jpeg(_coloured(image, length, lungs, largest_mm))
                    for image, length, lungs in zip(
                        frame["warped"], frame["motion"], self._lungs, strict=True
                    )
                ],
            }
            for frame in self.frames
        ]


def write_series_page(path: Path, view: SeriesView, summary: dict[str, Any]) -> None:
    """Writes the page: loops of the phases, lung volume and motion over time, measures, warnings.

    Args:
        path: file to write, .html; it needs no other file and no network.
        view: with images of each phase.
        summary: of the series, as in summary.json.
    """
    lengths = [image for frame in view.frames for image in frame["motion"]]
    largest_mm = max(1.0, float(np.ceil(max(image.max() for image in lengths))))
    page = template(Path(__file__).with_suffix(".html")).render(
        title=f"Series of {len(view.frames)} phases",
        summary=summary,
        images=view.images(largest_mm),
        planes=[plane.name for plane in _SHOWN],
        largest_mm=largest_mm,
        colours=[_hex(fraction) for fraction in np.linspace(0, 1, 9)],
        curves=[
            _curve([row["lungs_ml"] for row in summary["phases"]]),
            _curve([row["motion_mm"] for row in summary["phases"]]),
        ],
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _curve(values: list[float]) -> dict[str, Any]:
    """Points of a curve in a box of 100 x 100, y downwards, and its least and largest value."""
    low, high = min(values), max(values)
    span = high - low or 1.0
    step = 100.0 / max(1, len(values) - 1)
    points = [(index * step, 100.0 - 100.0 * (v - low) / span) for index, v in enumerate(values)]
    return {"points": points, "low": low, "high": high}


def _grey(image: np.ndarray) -> np.ndarray:
    low, high = WINDOW_HU
    return np.clip((image[::-1] - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)


def _coloured(image, length_mm, lungs, largest_mm) -> np.ndarray:
    """Grey outside the lungs, the colour of the motion inside."""
    grey = np.repeat(_grey(image)[..., None], 3, axis=-1)
    colours = colormaps[_MOTION_COLOURS](np.clip(length_mm[::-1] / largest_mm, 0, 1))[..., :3]
    return np.where((lungs[::-1] > 0)[..., None], (255 * colours).astype(np.uint8), grey)


def _hex(fraction: float) -> str:
    red, green, blue = (round(255 * c) for c in colormaps[_MOTION_COLOURS](fraction)[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


def _jpeg(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return data_uri(buffer.getvalue(), "jpeg")
