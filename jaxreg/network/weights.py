"""Weights of a cascade in one .npz file: its arrays by path, and a JSON header.

The header holds the version of this layout, the version of jaxreg that wrote it, and the network
settings. A file is read only when every array is there in the shape that its settings imply.
"""

import functools
import hashlib
import json
import zipfile
import zlib
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
# What numpy and zipfile raise for damaged archives, depending on where the damage is.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError),
    *(ValueError, AttributeError, KeyError, NotImplementedError, RuntimeError),
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
    _check_shapes("params", arrays, config)
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
    if not path.is_file():
        raise ValueError(
            f"weights: expected a file, got {path}, which does not exist. "
            "Train one with train.py, or leave weights out for those that ship with jaxreg."
        )
    arrays = _read(path)
    config = _config_of(path, arrays)
    _check_shapes(f"weights {path}", arrays, config)
    # host arrays: a JAX array made while another function is traced would belong to that trace
    flat = {name: value.astype(np.float32) for name, value in arrays.items()}
    return unflatten_dict(flat, sep="/"), config


def weights_digest(params: Params) -> str:
    """Returns twelve characters that tell these parameters from others, for records."""
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


def _read(path):
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except DAMAGED as error:
        raise ValueError(
            f"weights {path}: expected a whole .npz file, got a damaged or foreign one ({error}). "
            "Copy it again, or train it anew."
        ) from error


def _config_of(path, arrays):
    """Settings in the header, which is taken out of the arrays."""
    try:
        header = json.loads(str(arrays.pop(_HEADER)))
        version, network = header["format"], header["network"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"weights {path}: expected a header of jaxreg, got none. "
            "Give a file written by jaxreg.network.weights.save_weights."
        ) from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"weights {path}: expected format version {FORMAT_VERSION}, got {version}, written by "
            f"jaxreg {header.get('jaxreg')}. Install that version, or train the weights anew."
        )
    try:
        return network_from_dict(network)
    except (TypeError, ValueError) as error:
        raise ValueError(f"weights {path}: {error}") from error


def _check_shapes(name, arrays, config):
    """Refuses arrays that are not those of the settings."""
    tree = jax.eval_shape(functools.partial(init_level, config=config), jax.random.key(0))
    levels = {f"level_{level}": tree for level in range(config.by_hand + 1, config.levels + 1)}
    leaves: dict[str, Any] = dict(flatten_dict(levels, sep="/"))
    expected = {path: leaf.shape for path, leaf in leaves.items()}
    for path in sorted(expected.keys() ^ arrays.keys()):
        there, wanted = ("absent", "present") if path in expected else ("present", "absent")
        raise ValueError(
            f"{name}: expected {path} to be {wanted} in a network of widths {config.widths}, "
            f"{config.convs} convolutions and {config.levels} levels, got it {there}. "
            "Use the settings that it was trained with."
        )
    for path, shape in expected.items():
        if arrays[path].shape != shape:
            raise ValueError(
                f"{name}: expected {path} of shape {shape}, got {arrays[path].shape}. "
                "Use the settings that it was trained with."
            )
