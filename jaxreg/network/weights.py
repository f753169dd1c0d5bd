"""Weights of a cascade in one .npz file: its arrays by path, and a JSON header.

The header holds the version of this layout, the version of jaxreg that wrote it, and the network
settings. Values are read only when every array is there in the shape that its settings imply, so
that a file cannot ask for more memory than its network needs.
"""

import contextlib
import functools
import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxreg.config import NetworkConfig, network_from_dict, to_json
from jaxreg.io.atomic import replacing
from jaxreg.network.cascade import Params, init_level

FORMAT_VERSION = 2
SHIPPED = Path(__file__).parents[1] / "weights"
_HEADER = "header"
_MAX_HEADER = 1 << 16  # bytes
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What numpy and zipfile raise for damaged archives, depending on where the damage is.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError),
    *(ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, struct.error),
)


def save_weights(
    path: str | Path, params: Params, config: NetworkConfig, *, half: bool = False
) -> None:
    """Writes the parameters of all levels; a former file stays whole until the new one is.

    Args:
        path: file to write, ending in .npz.
        params: {"level_1": tree, ...} of all levels.
        config: network settings.
        half: float16 on disk, for half the size; read back as float32.

    Raises:
        ValueError: the parameters are not those of these settings.
        OSError: the folder is missing or cannot be written.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path: expected a file name ending in .npz, got {path}. Rename it.")
    arrays = {name: np.asarray(value) for name, value in flatten_dict(params, sep="/").items()}
    _check_shapes("params", {name: array.shape for name, array in arrays.items()}, config)
    header = {
        "format": FORMAT_VERSION,
        "jaxreg": metadata.version("jaxreg"),
        "network": json.loads(to_json(config)),
    }
    stored: dict[str, Any] = {_HEADER: np.array(json.dumps(header))}
    for name, array in arrays.items():
        stored[name] = array.astype(np.float16) if half else array
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **stored)


def load_weights(path: str | Path) -> tuple[dict[str, Any], NetworkConfig]:
    """Parameters of all levels, float32, and their network settings.

    Args:
        path: file that `save_weights` wrote.

    Returns:
        ({"level_1": tree, ...}, settings).

    Raises:
        ValueError: the file is missing, damaged, of another version or of other shapes.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(
            f"weights: expected a file, got the folder {path}. Name the file in it, such as "
            f"{path / 'weights.npz'}."
        )
    if not path.is_file():
        raise ValueError(
            f"weights: expected a file, got {path}, which does not exist. "
            "Train one with train.py, or leave weights out for those that ship with jaxreg."
        )
    with _damage_named(path), zipfile.ZipFile(path) as archive:
        members = _members(archive)
        config = _config_of(path, archive, members)
        headers = {name: _header_of(archive, name) for name in sorted(members - {_HEADER})}
        _check_shapes(
            f"weights {path}", {name: shape for name, (shape, _) in headers.items()}, config
        )
        arrays = {name: _values(path, archive, name, kind) for name, (_, kind) in headers.items()}
    # host arrays: a JAX array made while another function is traced would belong to that trace
    return unflatten_dict(arrays, sep="/"), config


def weights_digest(params: Params) -> str:
    """Returns twelve characters that identify the parameters, for records."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]


def load_named(name: str | Path) -> tuple[dict[str, Any], NetworkConfig]:
    """Parameters and network settings by the name of weights that ship, or by a path.

    Raises:
        ValueError: no weights of that name ship, or as `load_weights`.
    """
    shipped = {path.stem: path for path in SHIPPED.glob("*.npz")}
    if str(name) in shipped:
        return _load_shipped(shipped[str(name)])
    if "/" in str(name) or str(name).endswith(".npz"):
        return load_weights(name)
    raise ValueError(
        f"weights: expected {', '.join(sorted(shipped))} or the path of an .npz file, got "
        f"{str(name)!r}. Choose one of these."
    )


@functools.cache
def _load_shipped(path: Path) -> tuple[dict[str, Any], NetworkConfig]:
    return load_weights(path)


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        if str(error).startswith("weights "):
            raise
        raise ValueError(
            f"weights {path}: expected a whole .npz file, got a damaged or foreign one ({error}). "
            "Copy it again, or train it anew."
        ) from error


def _members(archive: zipfile.ZipFile) -> set[str]:
    """Names of the arrays."""
    names = archive.namelist()
    foreign = [name for name in names if not name.endswith(".npy")]
    if foreign or len(set(names)) < len(names):
        raise ValueError(f"members that are no arrays, {foreign[:1]}" if foreign else "repetitions")
    return {name.removesuffix(".npy") for name in names}


def _header_of(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array, whose values are not read."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADER_READERS:
            raise ValueError(f"{name}: version {version} of .npy")
        shape, fortran, dtype = _HEADER_READERS[version](file, max_header_size=_MAX_HEADER)
    if fortran and len(shape) > 1:
        raise ValueError(f"{name}: another order of axes")
    return shape, dtype


def _values(path: Path, archive: zipfile.ZipFile, name: str, dtype: np.dtype) -> np.ndarray:
    """Values of an array, float32, finite."""
    if dtype.kind != "f":
        raise ValueError(
            f"weights {path}: expected {name} to be floating, got {dtype}. Train anew."
        )
    with archive.open(f"{name}.npy") as file:
        values = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):  # the end, where the checksum is verified
            raise ValueError(f"{name}: more than its values")
    with np.errstate(over="ignore"):
        values = np.asarray(values, np.float32)
    if not np.all(np.isfinite(values)):
        raise ValueError(
            f"weights {path}: expected finite numbers, got NaN or infinity in {name}. "
            "Train it anew, with a lower learning rate."
        )
    return values


def _config_of(path: Path, archive: zipfile.ZipFile, members: set[str]) -> NetworkConfig:
    """Settings in the header."""
    try:
        shape, dtype = _header_of(archive, _HEADER)
        if shape != () or dtype.kind != "U" or dtype.itemsize > _MAX_HEADER:
            raise TypeError(f"an array {shape} of {dtype}")
        with archive.open(f"{_HEADER}.npy") as file:
            header = json.loads(str(np.lib.format.read_array(file, allow_pickle=False)))
        version, network = header["format"], header["network"]
    except (KeyError, TypeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(
            f"weights {path}: expected a header of jaxreg, got none. "
            "Give a file written by jaxreg.network.weights.save_weights."
        ) from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"weights {path}: expected format version {FORMAT_VERSION}, got {version}, written by "
            f"jaxreg {header.get('jaxreg')}. Install that version, or train the weights anew."
        )
    _require_plausible(path, network, len(members))
    try:
        return network_from_dict(network)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"weights {path}: {error}") from error


def _require_plausible(path: Path, network: Any, arrays: int) -> None:
    """Refuses numbers that no network of so few arrays has, before anything is built from them."""
    network = network if isinstance(network, dict) else {"network": network}
    for name in ("levels", "convs", "flow", "widths", "grid"):
        value = network.get(name, 1)
        numbers = value if isinstance(value, list) else [value]
        limit = arrays if name in ("levels", "convs") else 10**6
        if not all(type(number) is int and 0 <= number <= limit for number in numbers):
            raise ValueError(
                f"weights {path}: expected whole numbers up to {limit} as {name} of a network with "
                f"{arrays} arrays, got {str(value)[:40]}. Copy it again, or train it anew."
            )
    if len(network.get("widths", ())) > arrays:
        raise ValueError(
            f"weights {path}: expected at most {arrays} widths, got {len(network['widths'])}. "
            "Copy it again, or train it anew."
        )


def _check_shapes(name: str, shapes: Mapping[str, tuple[int, ...]], config: NetworkConfig) -> None:
    """Refuses arrays that are not those of the settings."""
    tree = jax.eval_shape(functools.partial(init_level, config=config), jax.random.key(0))
    levels = {f"level_{level}": tree for level in range(config.by_hand + 1, config.levels + 1)}
    leaves: dict[str, Any] = dict(flatten_dict(levels, sep="/"))
    expected = {path: leaf.shape for path, leaf in leaves.items()}
    for path in sorted(expected.keys() ^ shapes.keys()):
        there, wanted = ("absent", "present") if path in expected else ("present", "absent")
        raise ValueError(
            f"{name}: expected {path} to be {wanted} in a network of widths {config.widths}, "
            f"{config.convs} convolutions and {config.levels} levels, got it {there}. "
            "Use the settings that it was trained with."
        )
    for path, shape in expected.items():
        if shapes[path] != shape:
            raise ValueError(
                f"{name}: expected {path} of shape {shape}, got {shapes[path]}. "
                "Use the settings that it was trained with."
            )
