"""Shapes of the arrays that cross functions, named once.

Axes (X, Y, Z) are the voxel indices (i, j, k) of a NIfTI image. Conventions of direction, unit and
composition stand in `jaxreg.ops.deformation`.
"""

from typing import TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float, Integer, Num

AnyArray: TypeAlias = jax.Array | np.ndarray

Image: TypeAlias = Float[AnyArray, "X Y Z"]  # Hounsfield units unless said otherwise
Mask: TypeAlias = Bool[AnyArray, "X Y Z"] | Num[AnyArray, "X Y Z"]  # 0 outside, 1 inside
Labels: TypeAlias = Integer[AnyArray, "X Y Z"]  # 0 is background
Displacement: TypeAlias = Float[AnyArray, "X Y Z 3"]  # voxels of its own grid
Points: TypeAlias = Float[AnyArray, "N 3"]  # voxels, 0-based, between voxels allowed
Coordinates: TypeAlias = Float[AnyArray, "*points 3"]
Scalar: TypeAlias = Float[AnyArray, ""]
Number: TypeAlias = float | int
Shape: TypeAlias = tuple[int, ...]  # (X, Y, Z)
Spacing: TypeAlias = tuple[Number, Number, Number] | Float[AnyArray, "3"]  # mm along X, Y, Z
