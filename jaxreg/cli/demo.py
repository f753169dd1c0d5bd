"""`jaxreg demo`: generated images whose ground truth is known, registered and measured."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import prepare_folder
from jaxreg.cli.progress import stages
from jaxreg.config import METHODS

if TYPE_CHECKING:
    import numpy as np

    from jaxreg.phantom.pair import PhantomPair

_PAIR, _LOBES = ("fixed.nii.gz", "moving.nii.gz", "landmarks.csv"), "fixed_lobes.nii.gz"
_PHASES, _SERIES_POINTS = 10, "landmarks.csv"
_MARKS, _NODULES = ("lesions.csv", "moving_lesions.csv"), "nodules.json"
_COUNT, _DAYS = 10, 90.0  # nodules, and days between both scans
SEED = 20_000_000  # of the phantoms for tests, none of which was trained on


@click.command("demo")
@click.option(
    "--out",
    type=options.FILE,
    help="Folder for results: demo, or demo_series or demo_lesions with the option of that name.",
)
@click.option("--method", type=click.Choice(METHODS[1:]), default="classical", show_default=True)
@click.option("--series", is_flag=True, help="Ten phases of a respiratory cycle instead of a pair.")
@click.option("--lesions", is_flag=True, help="Two scans 90 days apart, with nodules that change.")
def command(out: Path | None, method: str, series: bool, lesions: bool) -> int:
    """Register generated images whose ground truth is known."""
    if series and lesions:
        raise ValueError("--series, --lesions: expected one of the two, got both. Choose one.")
    keep_compiled_programs()
    out = out or Path("demo_series" if series else "demo_lesions" if lesions else "demo")
    prepare_folder(out)
    if series:
        _series(out)
    elif lesions:
        _lesions(out, method)
    else:
        _pair(out, method)
    return 0


def _pair(out: Path, method: str) -> None:
    from jaxreg.phantom.pair import phantom_pair
    from jaxreg.pipeline.registration import register_volumes

    _refuse_scans(out, _PAIR, _LOBES)
    click.echo("generating a thorax in two respiratory states ...")
    pair = phantom_pair(SEED, shape=(144, 112, 128), spacing_mm=(2.4, 2.4, 2.5))
    click.echo("registering ...")
    result = register_volumes(pair.fixed, pair.moving, method=method)
    result.save(out)
    _write_pair(out, pair)
    before = pair.fixed_landmarks - pair.moving_landmarks
    after = result.map_points(pair.fixed_landmarks) - pair.moving_landmarks
    click.echo(f"{len(before)} landmarks: {_errors(before, after)}")
    click.echo("\n".join(result.lines()))
    click.echo(f"written to {out}: look at report.png")


def _series(out: Path) -> None:
    from jaxreg.io.labelled import PointList
    from jaxreg.io.nifti import write_volume
    from jaxreg.io.point_lists import write_points
    from jaxreg.phantom.series import phantom_series
    from jaxreg.pipeline.series import register_series

    images = [f"phase_{index:02d}.nii.gz" for index in range(_PHASES)]
    lobes = [f"lobes_{index:02d}.nii.gz" for index in range(_PHASES)]
    _refuse_scans(out, (*images, _SERIES_POINTS), lobes[0])
    click.echo("generating the phases of a respiratory cycle ...")
    series = phantom_series(SEED, phases=_PHASES)
    for name, label, phase, labels in zip(images, lobes, series.phases, series.labels, strict=True):
        write_volume(out / name, phase)
        write_volume(out / label, labels)
    points = series.trajectories
    names = tuple(str(number) for number in range(len(points[0])))
    listed = PointList(points[0], names, names, "RAS", source=("phantom", None))
    write_points(out / _SERIES_POINTS, listed, points[0])
    click.echo("registering ...")
    with stages() as stage:
        result = register_series(series.phases, progress=stage)
        result.save(out, points=points[0], progress=stage)
    after = result.trajectories(points[0]) - points
    moved = _errors(points[:1] - points[1:], after[1:])
    click.echo(f"{points.shape[1]} landmarks in {_PHASES - 1} phases: {moved}")
    click.echo(f"written to {out}: look at series.html")


def _lesions(out: Path, method: str) -> None:
    import json

    import numpy as np

    from jaxreg.config import RegistrationConfig, with_method
    from jaxreg.io.atomic import replacing
    from jaxreg.io.labelled import PointList
    from jaxreg.io.lesions import read_lesions
    from jaxreg.io.nifti import write_volume
    from jaxreg.io.point_lists import write_points
    from jaxreg.phantom.pair import phantom_pair
    from jaxreg.pipeline.follow import follow

    _refuse_scans(out, (*_PAIR[:2], *_MARKS), _NODULES)
    click.echo("generating a thorax with nodules in two scans ...")
    pair = phantom_pair(SEED, shape=(160, 128, 144), motion=8.0, nodules=_COUNT)
    marked = []
    for name, file in zip(("fixed", "moving"), _MARKS, strict=True):
        write_volume(out / f"{name}.nii.gz", getattr(pair, name))
        shown = [i for i, n in enumerate(pair.nodules, start=1) if getattr(n, f"{name}_ml")]
        places = np.array([getattr(pair.nodules[i - 1], f"{name}_mm") for i in shown])
        names = tuple(str(number) for number in shown)
        listed = PointList(places, names, names, "RAS", source=("phantom", None))
        write_points(out / file, listed, places)
        marked.append(read_lesions(out / file, getattr(pair, name).grid))
    true = [{"lesion": str(i), **dataclasses.asdict(n)} for i, n in enumerate(pair.nodules, 1)]
    with replacing(out / _NODULES) as temporary:
        text = json.dumps(true, indent=2, default=lambda a: np.round(a, 3).tolist())
        temporary.write_text(text + "\n", encoding="utf-8")
    click.echo("registering and following ...")
    with stages() as stage:
        found, registration = follow(
            pair.fixed,
            pair.moving,
            marked[0],
            moving_lesions=marked[1],
            days=_DAYS,
            config=with_method(RegistrationConfig(), method),
            progress=stage,
        )
        registration.save(out)
        found.save(out)
    kinds = {str(i): n.kind for i, n in enumerate(pair.nodules, start=1)}
    right = sum(kinds[row["lesion"]] in (row["change"], row["status"]) for row in found.rows())
    click.echo(found.line())
    click.echo(f"{right} of {len(kinds)} told as they are; the ground truth is in {_NODULES}")
    click.echo(f"written to {out}: look at follow.png")


def _errors(before: "np.ndarray", after: "np.ndarray") -> str:
    """Lengths of errors (..., 3) in words."""
    import numpy as np

    before, after = (np.linalg.norm(error, axis=-1) for error in (before, after))
    return (
        f"mean error {before.mean():.2f} mm before, {after.mean():.2f} mm after (95th percentile "
        f"{np.percentile(after, 95):.2f} mm)"
    )


def _refuse_scans(out: Path, names: Sequence[str], own: str) -> None:
    """Refuses a folder with scans that an earlier demo, which writes `own`, did not write."""
    there = [name for name in names if (out / name).exists()]
    if there and not (out / own).exists():
        raise ValueError(
            f"--out: expected a folder without scans of yours, got {out}, which has "
            f"{' or '.join(there)}. Choose another folder."
        )


def _write_pair(folder: Path, pair: "PhantomPair") -> None:
    """Writes the images, the lobes and the landmarks, for other commands to work on."""
    import numpy as np

    from jaxreg.io.nifti import write_volume
    from jaxreg.io.points import Landmarks, write_landmarks

    for name in ("fixed", "moving"):
        write_volume(folder / f"{name}.nii.gz", getattr(pair, name))
        write_volume(folder / f"{name}_lobes.nii.gz", getattr(pair, f"{name}_labels"))
    kind = np.full(len(pair.fixed_landmarks), "vessel")
    points = Landmarks(pair.fixed_landmarks, pair.moving_landmarks, kind)
    write_landmarks(folder / "landmarks.csv", points)
