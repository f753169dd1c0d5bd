"""Ways to a displacement field, all of one form, so that one loop scores them."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from jaxreg.config import NetworkConfig
from jaxreg.datasets.manifest import LoadedPair
from jaxreg.geometry.volume import require_same_grid
from jaxreg.io.images import find_displacement, read_displacement
from jaxreg.lungs.segmentation import lung_mask
from jaxreg.network.weights import weights_digest
from jaxreg.pipeline.registration import register_volumes
from jaxreg.pipeline.result import Registration


class Method(NamedTuple):
    """How to get a displacement field.

    Attributes:
        name: in tables and file names.
        register: from the name of a case and its images; None leaves the images as they are.
        depends: from the name of a case, what the result depends on beside code and images.
        timed: whether the time that `register` takes is that of a registration.
    """

    name: str
    register: Callable[[str, LoadedPair], Registration] | None
    depends: Callable[[str], str | None]
    timed: bool


INITIAL = Method("initial", None, lambda case: None, timed=False)


def file_name(case: str) -> str:
    """The name of a case as a part of file names."""
    return quote(case, safe="")


def registering(
    name: str,
    *,
    method: str,
    params: Mapping[str, Any] | None = None,
    config: NetworkConfig | None = None,
) -> Method:
    """A method of `jaxreg.pipeline.registration.register_volumes`.

    Args:
        name: in tables.
        method: of METHODS.
        params: weights of the networks, for methods that use them.
        config: settings of the networks.

    Returns:
        The method; its results depend on the weights and their settings.
    """

    def register(case: str, pair: LoadedPair) -> Registration:
        return register_volumes(
            pair.fixed,
            pair.moving,
            fixed_mask=pair.fixed_mask,
            moving_mask=pair.moving_mask,
            method=method,
            params=params,
            config=config,
        )

    weights = None if params is None else f"{weights_digest(params)} {config}"
    return Method(name, register, lambda case: weights, timed=True)


def outside(name: str, folder: Path) -> Method:
    """Fields that another tool has written; lungs are those given, else those found.

    Args:
        name: in tables.
        folder: with CASE.nii.gz, .mha, ... for each case, on the grid of the fixed image, as
            `jaxreg.io.images.read_displacement` reads them.

    Returns:
        The method; its results depend on the files.
    """

    def register(case: str, pair: LoadedPair) -> Registration:
        path = find_displacement(folder, file_name(case))
        field = read_displacement(path)
        require_same_grid(pair.fixed, field, ("fixed", str(path)))
        lungs = pair.fixed_mask or lung_mask(pair.fixed)
        return Registration(pair.fixed, pair.moving, field, lungs, np.eye(4), {})

    def depends(case: str) -> str | None:
        digest = hashlib.sha256()
        for path in sorted(folder.glob(f"{file_name(case)}.*")):  # a .mhd and its .raw
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:12]

    return Method(name, register, depends, timed=False)
