"""Traced programs kept on disk: a later process compiles or loads them without tracing.

JAX's compilation cache spares a process the compilation, not the tracing that tells it what to
look for. For a program of thousands of operations that takes longer than loading it. `jax.export`
writes such a program as a portable file without code of Python.
"""

import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import Callable, Hashable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from jax.core import Tracer

_FOLDER = "jaxreg-programs"  # in that of JAX's compilation cache
_DIGEST = hashlib.sha256


class Kept:
    """`jax.jit` of a function, which keeps its traced programs where compiled ones are kept.

    They are kept where JAX has one device, a CPU, and its compilation cache a folder of this
    machine; elsewhere, and within a transformation of the caller, it is `jax.jit` alone. A file
    that cannot be written is not missed, and a damaged one is replaced.
    """

    def __init__(self, function: Callable[..., Any], *, static: Sequence[str]):
        """Wraps a function.

        Args:
            function: of trees of arrays, given by position, and of settings, given by name; returns
                a tree of arrays. It depends on nothing else but the source code of this package.
            static: names of the settings, whose `repr` says all of them.
        """
        self._function = function
        self._jitted = jax.jit(function, static_argnames=tuple(static))
        self._programs: dict[Hashable, Callable[..., Any]] = {}
        self._locks: dict[Hashable, threading.Lock] = {}
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """What the function returns."""
        leaves, tree = jax.tree.flatten(args)
        folder = _folder()
        if folder is None or any(isinstance(leaf, Tracer) for leaf in leaves):
            return self._jitted(*args, **settings)
        return self._program(folder, leaves, tree, settings, make=True)(*leaves)

    def load(self, *args: Any, **settings: Any) -> None:
        """Loads the program that a later call will need, if it is kept; another thread can do so.

        The arguments are those of the call, or `jax.ShapeDtypeStruct` in the place of arrays.
        """
        leaves, tree = jax.tree.flatten(args)
        folder = _folder()
        if folder is not None:
            self._program(folder, leaves, tree, settings, make=False)

    def _program(self, folder: Path, leaves, tree, settings, *, make: bool) -> Any:
        """The program for arguments of these types; None where it is not kept nor to be made."""
        types = tuple(_type(leaf) for leaf in leaves)
        key = (folder, tree, types, tuple(sorted(settings.items())), _flags())
        if key in self._programs:
            return self._programs[key]

        def flat(*leaves: Any) -> Any:
            return self._function(*jax.tree.unflatten(tree, leaves), **settings)

        name = self._function.__qualname__
        path = folder / _digest(name, *key[1:-1], *sorted(map(str, _flags())), _sources())
        with self._locks.setdefault(key, threading.Lock()):  # two threads may want it
            if key not in self._programs and (make or path.is_file()):
                exported = _exported(path, flat, types)
                self._programs[key] = jax.jit(exported.call).lower(*types).compile()
        return self._programs.get(key)


def _type(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), jax.dtypes.canonicalize_dtype(leaf.dtype))


def _folder() -> Path | None:
    """Where programs are kept, None where they are not."""
    cache = jax.config.values["jax_compilation_cache_dir"]
    if not cache or "://" in cache or jax.config.values["jax_disable_jit"]:
        return None
    one_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    return Path(cache) / _FOLDER if one_cpu else None


def _exported(path: Path, function: Callable, types: Sequence[Any]) -> export.Exported:
    """The program of a file; traced and written where there is none, or a damaged one."""
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    size = _DIGEST().digest_size
    if content and content[:size] == _DIGEST(content[size:]).digest():
        return export.deserialize(bytearray(content[size:]))
    program = export.export(jax.jit(function))(*types)
    _write(path, program.serialize())
    return program


def _write(path: Path, program: bytes | bytearray) -> None:
    """Writes a program after its digest, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(_DIGEST(program).digest() + program)
        temporary.replace(path)
    except OSError:  # the disk is full or not to be written on: it is traced again the next time
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _digest(*parts: Any) -> str:
    return _DIGEST("\n".join(map(str, parts)).encode()).hexdigest()


def _flags() -> tuple[Hashable, ...]:
    """The flags of JAX, on which a trace depends beside its arguments and the source code."""
    return (*jax.config.values.items(), jax.dtypes.canonicalize_dtype("float64"))


@functools.cache
def _sources() -> str:
    """Digest of JAX's version and of the source code of this package."""
    package = Path(__file__).parents[1]
    files = sorted(package.rglob("*.py"))
    return _digest(
        metadata.version("jax"), *(_DIGEST(file.read_bytes()).hexdigest() for file in files)
    )
