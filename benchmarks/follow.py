"""Nodules of phantoms that grow, shrink, vanish and appear, followed from scan to scan.

    python benchmarks/follow.py [--first 42000100] [--count 12] [--nodules 10] [--method classical]
                                [--grid 112 96 112] [--margin 5] [--json OUT]

Pair i of n has seed first + i, voxels of about 2 mm, and 4 + 12 i / (n - 1) mm of motion between
both scans; in the moving scan the patient lies elsewhere. Masks are found. Nodules are marked by
points, 1.7 mm beside their centres on average (1 mm along each axis), in both scans. Sensitivity
is the part of the nodules that both scans show which were matched with the centre found within 3 mm
of the true one; errors of volume and of the volume ratio are medians of absolute values and 95th
percentiles, in percent, of these. "taken for new" and "for vanished" tell how many of those in one
scan were so, "wrong" counts statuses that are wrong, without the uncertain. The last row is of all.

--margin -1 registers with the lesions left in.
"""

import dataclasses

import numpy as np
from harness import parser, print_rows

from jaxreg.config import METHODS, FollowConfig, RegistrationConfig, with_method
from jaxreg.io.lesions import MarkedLesion, MarkedLesions
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.follow import follow
from jaxreg.pipeline.registration import register_volumes

SHAPE = (176, 144, 160)  # spans the chest in voxels of about 2 mm
NEAR_MM = 3.0
MARK_MM = 1.0
TRUE_STATUS = {"stable": "matched", "grown": "matched", "shrunk": "matched"}


def marks(pair, scan, rng):
    """Points beside the nodules that a scan shows, named by their number."""
    shown = [(i, n) for i, n in enumerate(pair.nodules) if getattr(n, f"{scan}_ml")]
    places = [getattr(n, f"{scan}_mm") + MARK_MM * rng.normal(size=3) for _, n in shown]
    lesions = [MarkedLesion(str(i), place) for (i, _), place in zip(shown, places, strict=True)]
    return MarkedLesions(tuple(lesions))


def followed(pair, seed, options):
    """The lesions of a pair, by their number; where one has two rows, the uncertain one."""
    config = with_method(RegistrationConfig(), options.method)
    grid = dataclasses.replace(config.grid, shape=tuple(options.grid))
    config = dataclasses.replace(config, grid=grid)
    rng = np.random.default_rng(seed)
    fixed, moving = marks(pair, "fixed", rng), marks(pair, "moving", rng)
    field, settings = None, FollowConfig()
    if options.margin >= 0:
        settings = dataclasses.replace(settings, margin_mm=options.margin)
    else:
        field = register_volumes(pair.fixed, pair.moving, config=config).displacement
    found, _ = follow(
        pair.fixed,
        pair.moving,
        fixed,
        moving_lesions=moving,
        field=field,
        config=config,
        settings=settings,
    )
    return {lesion.name: lesion for lesion in found.lesions}


def measure(index, options):
    """One record a nodule."""
    motion = 4.0 + 12.0 * index / max(options.count - 1, 1)
    rng = np.random.default_rng(index)
    pair = phantom_pair(
        options.first + index,
        shape=SHAPE,
        motion=motion,
        fixed_phase=("inhale", "exhale")[index % 2],
        moving_shift_mm=rng.uniform(-20.0, 20.0, 3),
        nodules=options.nodules,
    )
    found = followed(pair, options.first + index, options)
    for number, nodule in enumerate(pair.nodules):
        lesion = found[str(number)]
        row = lesion.row()
        true = TRUE_STATUS.get(nodule.kind, nodule.kind)
        record = {"kind": nodule.kind, "true": true, "status": lesion.status}
        record["place"] = float(np.linalg.norm(lesion.places_mm[1] - nodule.moving_mm))
        for scan in ("fixed", "moving"):
            ml, known = row[f"{scan}_ml"], getattr(nodule, f"{scan}_ml")
            record[scan] = None if ml is None or not known else 100 * (ml / known - 1)
        ratio = row["volume_ratio"]
        if ratio is not None and true == "matched":
            record["ratio"] = 100 * (ratio * nodule.moving_ml / nodule.fixed_ml - 1)
        yield record


def summary(name, records):
    """A row of the table."""
    both = [r for r in records if r["true"] == "matched"]
    near = [r for r in both if r["status"] == "matched" and r["place"] <= NEAR_MM]
    errors = [abs(r[scan]) for r in near for scan in ("fixed", "moving")]
    ratios = [abs(r["ratio"]) for r in near]
    single = {kind: [r for r in records if r["kind"] == kind] for kind in ("new", "vanished")}
    wrong = [r for r in records if r["status"] not in (r["true"], "uncertain")]
    uncertain = [r for r in records if r["status"] == "uncertain"]
    row = {"seed": name, "in both": len(both), "sensitivity": len(near) / len(both)}
    row["place, mm"] = float(np.mean([r["place"] for r in near]))
    row |= {"volume, % median": float(np.median(errors)), "95 %": float(np.percentile(errors, 95))}
    row |= {"ratio, % median": float(np.median(ratios)), "95 % ": float(np.percentile(ratios, 95))}
    for kind, those in single.items():
        right = sum(r["status"] == kind for r in those)
        row[f"taken for {kind}"] = f"{right} of {len(those)}"
    return row | {"uncertain": len(uncertain), "wrong": len(wrong)}


def rows(options):
    """Yields a row a pair, and one of all."""
    records = []
    for index in range(options.count):
        those = list(measure(index, options))
        records += those
        yield summary(options.first + index, those)
    yield summary("all", records)


def main():
    """Prints the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--first", type=int, default=42_000_100)
    arguments.add_argument("--count", type=int, default=12)
    arguments.add_argument("--nodules", type=int, default=10)
    arguments.add_argument("--method", default="classical", choices=METHODS)
    arguments.add_argument("--grid", type=int, nargs=3, default=(112, 96, 112))
    arguments.add_argument("--margin", type=float, default=FollowConfig().margin_mm)
    options = arguments.parse_args()
    print_rows(rows(options), options)


if __name__ == "__main__":
    main()
