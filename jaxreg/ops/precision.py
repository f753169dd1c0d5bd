"""Functions that work in 32 bits, whatever `jax_enable_x64` says."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

_NARROW = {"float64": np.float32, "int64": np.int32, "uint64": np.uint32}


def in_32_bits(function: Callable[P, R]) -> Callable[P, R]:
    """The function with 64-bit arguments cast to 32 bits, and 64-bit types switched off inside.

    With JAX_ENABLE_X64 it thus returns the same bits as without. Within a transformation of the
    caller (`jit`, `vmap`, `grad`) the same holds for what is traced; the derivative with respect to
    a 64-bit argument has 64 bits again.

    Args:
        function: of arrays, trees of arrays, and other arguments, which stay as they are.

    Returns:
        Function of the same arguments.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        args, kwargs = jax.tree.map(_narrowed, (args, kwargs))
        with jax.enable_x64(False):
            return function(*args, **kwargs)

    return wrapped


def _narrowed(leaf: Any) -> Any:
    dtype = _NARROW.get(str(getattr(leaf, "dtype", None)))
    return leaf if dtype is None else leaf.astype(dtype)
