"""Trains the cascade, coarsest level first; resumes by itself.

    python train.py --level 3..1 --config configs/small.py --data phantom --workdir runs/small

Levels count as in the paper: 3 is the coarsest, 1 the finest, and 1..3 means all of them (order
does not matter: they are always trained from the coarsest down).
"""

import argparse
import logging
import sys
from pathlib import Path

from jaxreg.config import Config, load_config
from jaxreg.network.weights import save_weights
from jaxreg.training.anatomies import LOBES, prepare_manifest_stills, prepare_phantom_stills
from jaxreg.training.loop import coarser_params, train_level
from jaxreg.training.pairs import (
    VALIDATION_SEED,
    label_count,
    prepare_manifest,
    prepare_phantoms,
)
from jaxreg.training.sources import Source, pairs_source, stream_source


def parse_levels(text: str) -> list[int]:
    """Levels of "2" or "1..3", coarsest first."""
    first, _, last = text.partition("..")
    try:
        bounds = sorted((int(first), int(last or first)))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a level or a range like 1..3, got {text!r}"
        ) from None
    return list(range(bounds[1], bounds[0] - 1, -1))


def prepare_data(
    config: Config, options: argparse.Namespace, workdir: Path
) -> tuple[Source, dict[str, list[Path]], int]:
    """What to train on, the validation pairs by set, and the number of labels."""
    grid, counts = config.network.grid, config.training
    pairs, stills = workdir / "pairs", workdir / "stills"
    validation = {}
    if options.validation:
        validation["validation"] = prepare_manifest(pairs, options.validation, grid=grid)
    if options.data == "phantom":
        files = prepare_phantom_stills(stills, range(counts.subjects), grid=grid)
        if options.anatomies:
            files += prepare_manifest_stills(stills, options.anatomies, grid=grid)
        held_out = range(VALIDATION_SEED, VALIDATION_SEED + counts.validation_pairs)
        validation["phantom"] = prepare_phantoms(pairs, held_out, grid=grid)
        return stream_source(config, files), validation, LOBES
    train = prepare_manifest(pairs, Path(options.data), grid=grid)
    labels = label_count([*train, *validation.get("validation", [])])
    return pairs_source(config, train, labels=labels), validation, labels


def main(arguments: list[str] | None = None) -> int:
    """Trains the levels asked for; returns the exit status."""
    parser = argparse.ArgumentParser(description="Trains the cascade, coarsest level first.")
    parser.add_argument(
        "--level", type=parse_levels, default=None, help="3, or 1..3 (default: all)"
    )
    parser.add_argument("--config", default="configs/small.py", help="a file of configs/")
    parser.add_argument("--data", default="phantom", help="phantom, or a manifest.json")
    parser.add_argument(
        "--anatomies", type=Path, help="manifest.json of images to deform beside the phantoms"
    )
    parser.add_argument(
        "--validation",
        type=Path,
        help="manifest.json of pairs held out: they choose the checkpoint that is kept",
    )
    parser.add_argument("--workdir", default=None, type=Path, help="default: runs/NAME OF CONFIG")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )
    logging.getLogger("jaxreg").setLevel(logging.INFO)

    try:
        config = load_config(options.config)
        levels = options.level or list(range(config.network.levels, 0, -1))
        if not 1 <= levels[-1] <= levels[0] <= config.network.levels:
            raise ValueError(f"--level: expected 1 to {config.network.levels}, got {levels}.")
        workdir = options.workdir or Path("runs") / Path(options.config).stem
        source, validation, labels = prepare_data(config, options, workdir)
        for level in levels:
            params = train_level(
                config, level, workdir=workdir, source=source, validation=validation, labels=labels
            )
            if level == 1:
                finer = {"level_1": params}
                coarser = coarser_params(config, 1, workdir=workdir)
                save_weights(workdir / "weights.npz", {**coarser, **finer}, config.network)
                logging.getLogger("jaxreg").info("wrote %s", workdir / "weights.npz")
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
