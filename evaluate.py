"""Scores registrations on data sets with known truth, the published figures beside ours.

    python evaluate.py                                   # generated pairs (--phantom)
    python evaluate.py --dirlab DIR --method affine classical full
    python evaluate.py --dirlab DIR --method initial     # needs the landmark files alone
    python evaluate.py --manifest pairs.json --weights runs/small/weights.npz --out runs/mine

Tables go to the terminal and, as Markdown, CSV and JSON, under --out, with a picture of every
registration. A run that was stopped goes on with the cases that are missing. A case that fails is
reported and does not stop the others; the exit status is then 1. Seconds are those of the
registration alone; the first case of a shape pays for compilation.
"""

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jaxreg
from jaxreg.evaluation import published, results
from jaxreg.evaluation.cases import (
    PHANTOM_SEED,
    PHANTOM_SHAPE,
    Case,
    Truth,
    choose,
    dirlab_cases,
    manifest_cases,
    phantom_cases,
)
from jaxreg.evaluation.report import report_picture
from jaxreg.evaluation.table import markdown, write_table
from jaxreg.network.weights import load_shipped, load_weights, weights_digest
from jaxreg.registration import METHODS, register_volumes, versions

DIRLAB = os.environ.get("JAXREG_DIRLAB", "data/dirlab4dct")
DIRLAB_COPD = os.environ.get("JAXREG_DIRLAB_COPD", "data/dirlabcopd")
NETWORK_METHODS = {"cascade", "full"}
FAILURES = (ValueError, OSError, RuntimeError, MemoryError)  # of one case; anything else is ours
PUBLISHED = {  # by data set: figures of each case, rows of methods
    "dirlab": (
        {name: published.DIRLAB_CASES[name] for name in ("initial", "observers", "the paper")},
        published.DIRLAB,
    ),
    "dirlab-copd": (published.DIRLAB_COPD_CASES, published.DIRLAB_COPD),
}


def main(arguments: list[str] | None = None) -> int:
    """Evaluates what was asked for; returns the exit status."""
    options = parse(arguments)
    try:
        networks = weights(options)
        failures = 0
        for name, source, found in data_sets(options):
            cases = choose(found, options.cases)
            settings = {"data set": name, "source": source, "code": code_digest(), **versions()}
            folder = options.out / name
            (folder / "cases").mkdir(parents=True, exist_ok=True)
            by_method = {method: [] for method in options.method}
            for case in cases:
                print(f"{name} {case.name} ...", file=sys.stderr, flush=True)
                for record in evaluate(case, options.method, folder, settings, networks):
                    by_method[record.method].append(record)
            failures += show(name, by_method, folder, settings | {"weights": networks[2]})
    except (ValueError, OSError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 1
    return 1 if failures else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Returns the options; --phantom where no data set is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dirlab", nargs="?", const=DIRLAB, metavar="DIR", help="DIR-Lab 4DCT (%(const)s)")
    add("--dirlab-copd", nargs="?", const=DIRLAB_COPD, metavar="DIR", help="(%(const)s)")
    add("--phantom", action="store_true", help="generated pairs; the default")
    add("--manifest", metavar="JSON", help="own pairs")
    add("--method", nargs="+", choices=METHODS, default=["initial", "full"])
    add("--weights", type=Path, metavar="FILE", help="of the networks; those that ship by default")
    add("--cases", nargs="+", metavar="NAME", help="only these, such as 1 5 10")
    add("--out", type=Path, default=Path("runs/evaluation"), metavar="DIR")
    options = parser.parse_args(arguments)
    options.phantom |= not (options.dirlab or options.dirlab_copd or options.manifest)
    return options


def data_sets(options: argparse.Namespace):
    """Yields name, source and cases of each data set that was asked for."""
    if options.dirlab:
        yield "dirlab", options.dirlab, dirlab_cases(options.dirlab)
    if options.dirlab_copd:
        folder = options.dirlab_copd
        yield "dirlab-copd", folder, dirlab_cases(folder, dataset="copd")
    if options.manifest:
        cases = manifest_cases(options.manifest)
        digest = hashlib.sha256(Path(options.manifest).read_bytes()).hexdigest()[:12]
        yield "manifest", f"{options.manifest} {digest}", cases
    if options.phantom:
        yield "phantom", f"seeds above {PHANTOM_SEED}, {PHANTOM_SHAPE} voxels", phantom_cases()


def weights(options: argparse.Namespace):
    """Parameters and settings of the networks, and what identifies them; None without networks."""
    if not NETWORK_METHODS & set(options.method):
        return None, None, None
    params, config = load_weights(options.weights) if options.weights else load_shipped()
    return params, config, weights_digest(params)


def code_digest() -> str:
    """Returns what tells this state of the package from others: its records are not reused."""
    digest = hashlib.sha256()
    for path in sorted(Path(jaxreg.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def evaluate(case: Case, methods, folder: Path, settings, networks):
    """Yields a record of each method: the finished one, or a new one, which is written."""
    truth = None
    *networks, digest = networks
    for method in methods:
        used = settings | {"weights": digest if method in NETWORK_METHODS else None}
        path = folder / "cases" / f"{quote(case.name, safe='')}-{method}.json"
        record = results.read_record(path, settings=used)
        if record is None:
            try:
                truth = truth or case.load()
                record = score(case.name, truth, method, path.with_suffix(".png"), *networks)
            except FAILURES as error:
                record = results.Record(case.name, method, error=" ".join(str(error).split()))
            results.write_record(path, record, settings=used)
        yield record


def score(name: str, truth: Truth, method: str, picture: Path, params, config) -> results.Record:
    """Registers one case by one method, draws it and measures it."""
    if method == "initial":
        return results.Record(name, method, truth.fixed_phase, **results.initial_scores(truth))
    pair = truth.images()
    began = time.perf_counter()
    found = register_volumes(
        pair.fixed,
        pair.moving,
        fixed_mask=pair.fixed_mask,
        moving_mask=pair.moving_mask,
        method=method,
        params=params,
        config=config,
    )
    scores: dict[str, Any] = {"seconds": time.perf_counter() - began}
    scores |= results.fold_scores(found.displacement, found.fixed_mask)
    if truth.landmarks:
        mapped = found.map_points(truth.landmarks.fixed)
        scores |= results.landmark_scores(truth.landmarks, mapped, snap_grid=truth.snap_grid)
    if pair.fixed_labels and pair.moving_labels:
        warped_labels = found.warp_labels(pair.moving_labels)
        scores |= results.overlap_scores(pair.fixed_labels, warped_labels)
    record = results.Record(name, method, truth.fixed_phase, **scores)
    report_picture(
        picture,
        fixed=pair.fixed,
        moving=pair.moving,
        warped=found.warp(),
        determinant=found.jacobian_determinant(),
        mask=found.fixed_mask,
        title=f"Case {name}: {method}",
        lines=record.lines(),
    )
    return record


def show(name: str, by_method, folder: Path, settings) -> int:
    """Prints and writes the tables of a data set; returns the number of failures."""
    by_case, methods = PUBLISHED.get(name, ({}, ()))
    records = [record for found in by_method.values() for record in found]
    phases = sorted({record.fixed_phase for record in records if record.fixed_phase})
    settings = settings | {"fixed": ", ".join(phases)}
    for method, found in by_method.items():
        rows, title = results.case_rows(found, published=by_case), f"{name}, {method}: TRE by case"
        print(f"\n{title} (fixed: {settings['fixed']})\n\n{markdown(rows)}")
        write_table(folder / method, rows, title=title, settings=settings)
    rows, title = results.summary_rows(by_method, published=methods), f"{name}: methods"
    print(f"\n{title}\n\n{markdown(rows)}\nwritten to {folder}")
    write_table(folder / "methods", rows, title=title, settings=settings)
    failed = [record for record in records if record.error]
    for record in failed:
        print(f"evaluate.py: {name} {record.case} {record.method}: {record.error}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
