"""Traced programs kept on disk: a later process compiles or loads them without tracing.

JAX's compilation cache spares a process the compilation, not the tracing that tells it what to
look for. For a program of thousands of operations that takes longer than loading it. `jax.export`
writes such a program as a portable file without code of Python.
"""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jax import export
from jax.core import Tracer

from jaxreg.ops.types import AnyArray

_FOLDER = "jaxreg-programs"  # in that of JAX's compilation cache
_DIGEST = hashlib.sha256


def kept(function: Callable[..., AnyArray], *, static: Sequence[str]) -> Callable[..., jax.Array]:
    """`jax.jit` of a function, which keeps its traced programs where compiled ones are kept.

    They are kept where JAX has one device, a CPU, and its compilation cache a folder of this
    machine; elsewhere, and within a transformation of the caller, it is `jax.jit` alone. A file
    that cannot be written is not missed, and a damaged one is replaced.

    Args:
        function: of trees of arrays, given by position, and of settings, given by name; returns one
            array. It depends on nothing else but the source code of this package.
        static: names of the settings, whose `repr` says all of them.

    Returns:
        Function of the same arguments.
    """
    compiled = jax.jit(function, static_argnames=tuple(static))
    programs: dict[str, Callable[..., jax.Array]] = {}

    @functools.wraps(function)
    def call(*args: Any, **settings: Any) -> jax.Array:
        leaves, tree = jax.tree.flatten(args)
        folder = _folder()
        if folder is None or any(isinstance(leaf, Tracer) for leaf in leaves):
            return compiled(*args, **settings)
        types = jax.eval_shape(lambda *leaves: leaves, *leaves)
        name = _digest(
            function.__qualname__, tree, types, sorted(settings.items()), _surroundings()
        )
        if name not in programs:

            def flat(*leaves: Any) -> AnyArray:
                return function(*jax.tree.unflatten(tree, leaves), **settings)

            programs[name] = jax.jit(_program(folder / name, flat, types).call)
        return programs[name](*leaves)

    return call


def _folder() -> Path | None:
    """Where programs are kept, None where they are not."""
    cache = jax.config.values["jax_compilation_cache_dir"]
    if not cache or "://" in cache or jax.config.values["jax_disable_jit"]:
        return None
    one_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    return Path(cache) / _FOLDER if one_cpu else None


def _program(path: Path, function: Callable, types: Sequence[Any]) -> export.Exported:
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


def _surroundings() -> str:
    """What a trace depends on beside its arguments: source code, JAX and its flags."""
    flags = sorted(jax.config.values.items())
    return _digest(_sources(), flags, jax.dtypes.canonicalize_dtype("float64"))


@functools.cache
def _sources() -> str:
    """Digest of JAX's version and of the source code of this package."""
    package = Path(__file__).parents[1]
    files = sorted(package.rglob("*.py"))
    return _digest(
        metadata.version("jax"), *(_DIGEST(file.read_bytes()).hexdigest() for file in files)
    )
