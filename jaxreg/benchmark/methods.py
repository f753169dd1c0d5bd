"""Methods of one form, so that one loop scores them: functions of a case and its ground truth."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxreg.benchmark.cases import GroundTruth
from jaxreg.benchmark.cost import measured
from jaxreg.benchmark.naming import file_name
from jaxreg.benchmark.scores import field_scores, initial_scores
from jaxreg.config import RegistrationConfig
from jaxreg.datasets.manifest import LoadedPair
from jaxreg.geometry.volume import require_same_grid
from jaxreg.io.images import find_displacement, read_displacement
from jaxreg.lungs.segmentation import lung_mask
from jaxreg.network.weights import weights_digest
from jaxreg.pipeline.registration import register_volumes
from jaxreg.pipeline.result import Registration
from jaxreg.pipeline.series import register_series


class Outcome(NamedTuple):
    """What a method gives on a case.

    Attributes:
        scores: by the name of the field of `jaxreg.benchmark.results.Record`.
        registered: the pair and its registration, to draw and to deliver; None where the images
            stay as they are.
    """

    scores: Mapping[str, Any]
    registered: tuple[LoadedPair, Registration] | None = None


class Method(NamedTuple):
    """A way to a displacement field.

    Attributes:
        name: in tables and file names.
        run: from the name of a case and its ground truth to the outcome.
        settings: from the name of a case to what, beside the images and the version of jaxreg, the
            outcome depends on, as JSON values.
    """

    name: str
    run: Callable[[str, GroundTruth], Outcome]
    settings: Callable[[str], Mapping[str, Any]]


INITIAL = Method(
    "initial",
    lambda case, ground_truth: Outcome(initial_scores(ground_truth)),
    lambda case: {"name": "initial"},
)


def registering(
    name: str,
    *,
    config: RegistrationConfig,
    params: Mapping[str, Any] | None = None,
) -> Method:
    """A method of `jaxreg.pipeline.registration.register_volumes`.

    Args:
        name: in tables.
        config: all settings.
        params: of the networks, for settings that use them.

    Returns:
        The method; its results depend on the settings and the weights.
    """

    def run(case: str, ground_truth: GroundTruth) -> Outcome:
        pair = ground_truth.images()
        with measured() as cost:
            found = register_volumes(
                pair.fixed,
                pair.moving,
                fixed_mask=pair.fixed_mask,
                moving_mask=pair.moving_mask,
                config=config,
                params=params,
            )
        return _scored(ground_truth, pair, found, **dataclasses.asdict(cost))

    settings = {
        "config": dataclasses.asdict(config),
        "weights": None if params is None else weights_digest(params),
    }
    return Method(name, run, lambda case: settings)


def series(name: str, *, config: RegistrationConfig) -> Method:
    """All phases of a patient registered at once, of which each case is one.

    Args:
        name: in tables.
        config: all settings; those of `series` say how motion is smoothed over time.

    Returns:
        The method; a case that is no phase of a series fails. The seconds of a patient stand in
        the first of the phases.
    """

    @functools.lru_cache(maxsize=1)
    def of_patient(read):
        return register_series(read(), config=config)

    def run(case: str, ground_truth: GroundTruth) -> Outcome:
        phase = ground_truth.phase
        if phase is None:
            raise ValueError(
                f"{case}: expected a phase of a series, got a pair. Use --dirlab with --phases, or "
                "another method."
            )
        with measured() as cost:
            found = of_patient(phase.read).registration(phase.index)
        return _scored(ground_truth, ground_truth.images(), found, **dataclasses.asdict(cost))

    settings = {"name": "series", "config": dataclasses.asdict(config)}
    return Method(name, run, lambda case: settings)


def outside(name: str, folder: Path) -> Method:
    """Fields that another tool has written; lungs are those given, else those found.

    Args:
        name: in tables.
        folder: with CASE.nii.gz, .mha, ... for each case, on the grid of the fixed image, as
            `jaxreg.io.images.read_displacement` reads them.

    Returns:
        The method; its results depend on the files.
    """

    def run(case: str, ground_truth: GroundTruth) -> Outcome:
        pair = ground_truth.images()
        path = find_displacement(folder, file_name(case))
        field = read_displacement(path)
        require_same_grid(pair.fixed, field, ("fixed", str(path)))
        lungs = pair.fixed_mask or lung_mask(pair.fixed)
        found = Registration(pair.fixed, pair.moving, field, lungs, np.eye(4), {})
        return _scored(ground_truth, pair, found)

    def settings(case: str) -> Mapping[str, Any]:
        digest = hashlib.sha256()
        for path in sorted(folder.glob(f"{file_name(case)}.*")):  # a .mhd and its .raw
            digest.update(path.name.encode() + path.read_bytes())
        return {"name": "fields", "files": digest.hexdigest()[:12]}

    return Method(name, run, settings)


def _scored(
    ground_truth: GroundTruth, pair: LoadedPair, found: Registration, **cost: Any
) -> Outcome:
    scores = field_scores(
        ground_truth,
        pair,
        found.displacement,
        lungs=found.fixed_mask,
        prealignment=found.prealignment,
    )
    codes = [
        f"{warning['code']} ({warning['lung']})" if warning["lung"] else str(warning["code"])
        for warning in found.warnings
    ]
    return Outcome(scores | cost | {"warnings": codes}, (pair, found))
