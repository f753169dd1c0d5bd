"""A whole training: data prepared, levels trained from the coarsest down, weights written."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from jaxreg.config import Config
from jaxreg.network.cascade import Params
from jaxreg.network.weights import load_named, save_weights
from jaxreg.training.anatomies import LOBES, prepare_manifest_anatomies, prepare_phantom_anatomies
from jaxreg.training.loop import coarser_params, train_level
from jaxreg.training.pairs import (
    VALIDATION_SEED,
    label_count,
    prepare_manifest,
    prepare_phantoms,
)
from jaxreg.training.sources import Source, pairs_source, stream_grid, stream_source

_LOG = logging.getLogger(__name__)


def train(
    config: Config,
    workdir: Path,
    *,
    levels: Sequence[int] | None = None,
    data: str = "phantom",
    anatomies: Path | None = None,
    validation: Path | None = None,
    start: str | Path | None = None,
) -> None:
    """Trains levels of the cascade, coarsest first, and writes workdir/weights.npz.

    That is written when all levels are known: after the finest one, or with `start` after each
    level, finer ones being those of the start. A run that was stopped goes on from its latest
    checkpoint.

    Args:
        config: of networks, loss and schedule.
        workdir: folder of the run: prepared data, checkpoints, logs, weights.
        levels: which to train, coarsest first; all if None.
        data: "phantom", or path of a manifest of pairs.
        anatomies: manifest of images to deform beside the phantoms.
        validation: manifest of pairs held out, which choose the checkpoint that is kept.
        start: weights to begin with, by name or path: each level begins with its own parameters,
            and coarser levels that were not trained in `workdir` are taken from there.

    Raises:
        ValueError: a level that the configuration does not have, data that cannot be used, or
            weights of another network.
    """
    count, finest = config.network.levels, config.network.by_hand + 1
    levels = list(range(count, finest - 1, -1)) if levels is None else list(levels)
    if not finest <= levels[-1] <= levels[0] <= count:
        raise ValueError(f"--level: expected {finest} to {count}, got {levels}.")
    begun = {} if start is None else _start(start, config)
    source, held_out, labels = prepare_data(
        config, workdir, data=data, anatomies=anatomies, validation=validation
    )
    for level in levels:
        params = train_level(
            config,
            level,
            workdir=workdir,
            source=source,
            validation=held_out,
            labels=labels,
            start=begun,
        )
        if level == finest or begun:
            coarser = coarser_params(config, level, workdir=workdir, start=begun)
            tree = {**begun, **coarser, f"level_{level}": params}
            save_weights(workdir / "weights.npz", tree, config.network)
            _LOG.info("wrote %s", workdir / "weights.npz")


def _start(weights: str | Path, config: Config) -> Params:
    """Parameters to begin with, of the network of the configuration."""
    params, network = load_named(weights)
    given, expected = dataclasses.asdict(network), dataclasses.asdict(config.network)
    other = [f"{k} is {given[k]}" for k in expected if given[k] != expected[k]]
    if other:
        raise ValueError(
            f"--start {weights}: expected a network as the configuration has it, got another: "
            f"{'; '.join(other)}. Give its own --config, or other weights."
        )
    return params


def prepare_data(
    config: Config,
    workdir: Path,
    *,
    data: str = "phantom",
    anatomies: Path | None = None,
    validation: Path | None = None,
) -> tuple[Source, dict[str, list[Path]], int]:
    """Prepares the data of `train`.

    Args:
        config: settings.
        workdir: of the training.
        data: "phantom", or path of a manifest of pairs.
        anatomies: manifest of images to deform beside the phantoms.
        validation: manifest of pairs held out.

    Returns:
        What to train on, the validation pairs by set, and the number of labels.

    Raises:
        ValueError: a manifest is not right, or the workdir was made for another grid.
    """
    grid, counts = config.network.grid, config.training
    pairs, folder = workdir / "pairs", workdir / "anatomies"
    held_out = {}
    if validation:
        held_out["validation"] = prepare_manifest(pairs, validation, grid=grid)
    seeds = range(VALIDATION_SEED, VALIDATION_SEED + counts.validation_pairs)
    if data == "phantom":
        held_out["phantom"] = prepare_phantoms(pairs, seeds, grid=grid)
    if data == "phantom" and counts.detected:
        files = prepare_phantoms(pairs, range(counts.subjects), grid=grid, detected=True)
        return pairs_source(config, files, labels=LOBES), held_out, LOBES
    if data == "phantom":
        fine = stream_grid(config)
        files = prepare_phantom_anatomies(folder, range(counts.subjects), grid=fine)
        if anatomies:
            files += prepare_manifest_anatomies(folder, anatomies, grid=fine)
        others = prepare_phantom_anatomies(folder, seeds, grid=fine)
        return stream_source(config, files, held_out=others), held_out, LOBES
    train_pairs = prepare_manifest(pairs, Path(data), grid=grid)
    labels = label_count([*train_pairs, *held_out.get("validation", [])])
    return pairs_source(config, train_pairs, labels=labels), held_out, labels
