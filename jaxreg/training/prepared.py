"""Training data that is made once and kept in files."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.datasets import manifest as manifests
from jaxreg.io.atomic import replacing
from jaxreg.ops.types import Shape

log = logging.getLogger(__name__)


def prepare_files(
    folder: Path, makers: Sequence[tuple[str, Callable[[], Any]]], grid: Shape
) -> list[Path]:
    """Writes what each maker makes, a named tuple of arrays, unless its file is there.

    Args:
        folder: where to; refused if it was made for another grid.
        makers: name of the file and function that makes its contents.
        grid: network grid that the contents are made for.

    Returns:
        The files, in order.

    Raises:
        ValueError: the folder is for another grid, or a maker raised it; the text names which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "grid.json"
    if stamp.is_file() and (found := json.loads(stamp.read_text(encoding="utf-8"))) != list(grid):
        raise ValueError(
            f"{folder}: expected data for the grid {grid}, found it for {tuple(found)}. "
            "Use another --workdir, or delete this folder."
        )
    with replacing(stamp) as target:
        target.write_text(json.dumps(grid), encoding="utf-8")
    paths = []
    for number, (name, make) in enumerate(makers, start=1):
        path = folder / f"{name}.npz"
        paths.append(path)
        if path.is_file():
            continue
        log.info("preparing %d of %d: %s", number, len(makers), name)
        try:
            made = make()
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        with replacing(path) as target:
            np.savez_compressed(target, **made._asdict())
    return paths


def entry_name(entry: manifests.Pair) -> str:
    """Name for the file of a pair that changes with each of the files it is made from."""
    digest = hashlib.sha256()
    for path in (p for p in dataclasses.astuple(entry) if isinstance(p, Path)):
        status = path.stat()
        digest.update(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}".encode())
    return f"pair_{digest.hexdigest()[:16]}"
