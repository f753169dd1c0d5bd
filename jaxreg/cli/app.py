"""The command line: argument parsing and messages only.

python -m jaxreg register FIXED MOVING --out DIR
python -m jaxreg keypoints FIXED MOVING --out POINTS.csv
python -m jaxreg demo --out DIR
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def main(*, arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, or 1 after a line that says what is wrong."""
    options = _parser().parse_args(arguments)
    _keep_compiled_programs()
    try:
        return options.run(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"jaxreg: {' '.join(str(error).split())}", file=sys.stderr)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print("jaxreg: out of memory. Crop the images to the chest.", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jaxreg", description="Registration of lung CT.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    pair = argparse.ArgumentParser(add_help=False)
    pair.add_argument("fixed", type=Path, help="CT whose points are followed (NIfTI, ...)")
    pair.add_argument("moving", type=Path, help="CT in which they are found")
    pair.add_argument("--fixed-mask", type=Path, help="lungs of FIXED; found if not given")
    pair.add_argument("--moving-mask", type=Path, help="lungs of MOVING; found if not given")

    register = commands.add_parser("register", parents=[pair], help="register two images")
    register.add_argument("--out", type=Path, required=True, help="folder for the results")
    register.add_argument(
        "--method",
        choices=("initial", "affine", "cascade", "classical", "full"),
        help="classical: optimisation on the pair (default); cascade: networks alone; "
        "full: both (default with --weights)",
    )
    register.add_argument("--weights", type=Path, help="weights.npz of train.py; default: shipped")
    register.add_argument(
        "--uncertainty",
        action="store_true",
        help="register the other way too; writes the error of going there and back, in mm",
    )
    register.set_defaults(run=_register)

    keypoints = commands.add_parser(
        "keypoints", parents=[pair], help="find points of one image in the other"
    )
    keypoints.add_argument("--out", type=Path, required=True, help="CSV file, world millimetres")
    keypoints.add_argument(
        "--space", default="RAS", choices=("RAS", "LPS"), help="axes of the file (default: RAS)"
    )
    keypoints.set_defaults(run=_keypoints)

    demo = commands.add_parser("demo", help="register a generated pair whose truth is known")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results")
    demo.add_argument(
        "--method", default="classical", choices=("affine", "cascade", "classical", "full")
    )
    demo.set_defaults(run=_demo)
    return parser


def _keep_compiled_programs() -> None:
    """Compiled programs stay on disk, so that a second run starts at once."""
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "jaxreg"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _prepare_folder(folder: Path) -> None:
    """Fails before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"--out: expected a folder that can be written, got {folder} ({error.strerror}). "
            "Choose another folder."
        ) from error
    if not os.access(folder, os.W_OK):
        raise OSError(
            f"--out: expected a folder that can be written, got {folder}. Choose another folder."
        )


def _read_pair(options: argparse.Namespace):
    """The images that a command names, and their masks, None where it names none."""
    from jaxreg.io.images import read_image, read_labels

    fixed, moving = read_image(options.fixed), read_image(options.moving)
    masks = [read_labels(p) if p else None for p in (options.fixed_mask, options.moving_mask)]
    return fixed, moving, masks


def _register(options: argparse.Namespace) -> int:
    from jaxreg.network.weights import load_weights
    from jaxreg.pipeline.registration import register_volumes

    _prepare_folder(options.out)
    params, config = load_weights(options.weights) if options.weights else (None, None)
    fixed, moving, masks = _read_pair(options)
    result = register_volumes(
        fixed,
        moving,
        fixed_mask=masks[0],
        moving_mask=masks[1],
        method=options.method,
        params=params,
        config=config,
        uncertainty=options.uncertainty,
    )
    result.save(options.out)
    print("\n".join(result.lines()))
    images = "warped, displacement" + (", uncertainty" if options.uncertainty else "")
    print(f"written to {options.out}: {images} and jacobian (.nii.gz), report.png, summary.json")
    return 0


def _keypoints(options: argparse.Namespace) -> int:
    from jaxreg.io.points import write_landmarks
    from jaxreg.pipeline.registration import match_volumes

    if options.out.is_dir():
        raise ValueError(f"--out: expected a CSV file, got the folder {options.out}. Name a file.")
    _prepare_folder(options.out.parent)
    fixed, moving, masks = _read_pair(options)
    began = time.perf_counter()
    points = match_volumes(fixed, moving, fixed_mask=masks[0], moving_mask=masks[1])
    seconds = time.perf_counter() - began
    write_landmarks(options.out, points, space=options.space)
    print(f"{len(points.fixed)} keypoints in {seconds:.1f} s, written to {options.out}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    import numpy as np

    from jaxreg.phantom.pair import phantom_pair
    from jaxreg.pipeline.registration import register_volumes

    _prepare_folder(options.out)
    print("generating a breathing thorax ...", flush=True)
    pair = phantom_pair(DEMO_SEED, shape=(144, 112, 128), spacing_mm=(2.4, 2.4, 2.5))
    print("registering ...", flush=True)
    result = register_volumes(pair.fixed, pair.moving, method=options.method)
    result.save(options.out)

    def errors(points):
        return np.linalg.norm(points - pair.moving_landmarks, axis=1)

    before, after = errors(pair.fixed_landmarks), errors(result.map_points(pair.fixed_landmarks))
    print(
        f"{len(before)} landmarks: mean error {before.mean():.2f} mm before, {after.mean():.2f} mm "
        f"after (95th percentile {np.percentile(after, 95):.2f} mm)"
    )
    print("\n".join(result.lines()))
    print(f"written to {options.out}: look at report.png")
    return 0


DEMO_SEED = 20_000_000  # of the test phantoms, none of which was trained on
