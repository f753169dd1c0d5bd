"""Thumbnails as images within an HTML page: coronal slices side by side, as data URIs."""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np

from jaxreg.figures.page import data_uri
from jaxreg.figures.thumbnails import Thumbnail, read_thumbnail

_SLICES_BYTES = 22_000_000  # of all slices in a page
_STEP_MM = 0.5
_COARSEST_MM = 10.0


def embedded_slices(
    paths: Mapping[str, Mapping[str, Path]],
) -> tuple[dict[str, Any], float]:
    """All thumbnails in as small voxels as the size of a page allows.

    Args:
        paths: of the thumbnails, by case and method; damaged ones are left out.

    Returns:
        {"cases": by case and method, what the page needs to know; "images": data URIs, to which
        these refer by index}, and the edge of the voxels, mm.
    """
    spacing_mm = 0.0  # as they are
    while True:
        images: dict[str, int] = {}  # what several methods share is kept once
        cases: dict[str, dict[str, Any]] = {name: {} for name in paths}
        for name, by_method in paths.items():
            for method, path in by_method.items():
                thumbnail = read_thumbnail(path)
                if thumbnail is None:
                    continue
                if thumbnail.spacing_mm < spacing_mm:
                    thumbnail = thumbnail.resized(spacing_mm)
                spacing_mm = max(spacing_mm, thumbnail.spacing_mm)
                cases[name][method] = _embedded(thumbnail, images)
        size = sum(map(len, images))
        if size <= _SLICES_BYTES or spacing_mm >= _COARSEST_MM:
            return {"cases": cases, "images": list(images)}, spacing_mm
        wanted = spacing_mm * (size / _SLICES_BYTES) ** (1 / 3)
        steps = max(math.floor(spacing_mm / _STEP_MM) + 1, math.ceil(wanted / _STEP_MM))
        spacing_mm = min(steps * _STEP_MM, _COARSEST_MM)


def _embedded(thumbnail: Thumbnail, images: dict[str, int]) -> dict[str, Any]:
    """What the page needs to know of a thumbnail; its pictures are added to `images`."""
    coarse = thumbnail.determinant // 4 * 4 + 2  # 64 steps, which compress better
    uris = {
        "fixed": _uri(thumbnail.fixed, "jpeg"),
        "moving": _uri(thumbnail.moving, "jpeg"),
        "warped": _uri(thumbnail.warped, "jpeg"),
        "determinant": _uri(np.where(thumbnail.determinant > 0, coarse, 0), "png"),
        "lungs": _uri(255 * thumbnail.lungs, "png"),
    }
    index = {name: images.setdefault(uri, len(images)) for name, uri in uris.items()}
    return {
        "shape": thumbnail.lungs.shape,
        "spacing_mm": round(thumbnail.spacing_mm, 3),
        "images": index,
    }


def _uri(volume, kind) -> str:
    """All coronal slices side by side in one image, as a data URI."""
    x, y, z = volume.shape
    across = math.ceil(math.sqrt(y * z / x))
    down = -(-y // across)
    tiles = np.zeros((across * down, z, x), np.uint8)
    tiles[:y] = volume.transpose(1, 2, 0)
    mosaic = tiles.reshape(down, across, z, x).swapaxes(1, 2).reshape(down * z, across * x)
    buffer = io.BytesIO()
    options = {"quality": 80} if kind == "jpeg" else {"compress_level": 6}
    colours = np.repeat(mosaic[..., None], 3, axis=-1)
    matplotlib.image.imsave(buffer, colours, format=kind, pil_kwargs=options)
    return data_uri(buffer.getvalue(), kind)
