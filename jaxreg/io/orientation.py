"""The orientation of files that do not say it, as a person states it.

Three letters say where each voxel index grows to: "LPS" to the patient's left, to posterior and to
superior, as the slices of most scanners lie.
"""

import os

import numpy as np
from nibabel.orientations import axcodes2ornt

from jaxreg.io.notes import note


def stated_affine(path: str | os.PathLike, orientation: str, spacing_mm: np.ndarray) -> np.ndarray:
    """Returns the geometry of a file without one, with a FileWarning "orientation-stated".

    Args:
        path: of the file, for the message.
        orientation: three letters.
        spacing_mm: voxel size along each axis, (3,).

    Returns:
        Voxel to world RAS mm, (4, 4); the first voxel lies at 0.

    Raises:
        ValueError: other letters.
    """
    affine = np.eye(4)
    affine[:3, :3] = axes_of(orientation) * spacing_mm
    note(
        path,
        "orientation-stated",
        f"the file does not say how its axes lie; they are taken as {orientation.upper()}, as "
        "stated, with the first voxel at 0 mm.",
    )
    return affine


def axes_of(orientation: str) -> np.ndarray:
    """Returns the directions of the axes as columns, RAS, (3, 3).

    Args:
        orientation: three letters, one each of R or L, A or P, S or I.

    Raises:
        ValueError: other letters.
    """
    axes = np.zeros((3, 3))
    try:
        found = axcodes2ornt(orientation.upper())
        axes[found[:, 0].astype(int), np.arange(3)] = found[:, 1]
    except (ValueError, IndexError):
        pass
    if np.linalg.det(axes) == 0:
        raise ValueError(
            "orientation: expected three letters, one each of R or L, A or P, S or I, for where "
            f"the indices of a voxel grow to, got '{orientation}'. Most scans are LPS."
        )
    return axes
