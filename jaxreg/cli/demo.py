"""`jaxreg demo`: a generated pair whose ground truth is known, registered and measured."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import prepare_folder
from jaxreg.config import METHODS

if TYPE_CHECKING:
    from jaxreg.phantom.pair import PhantomPair

_PAIR, _LOBES = ("fixed.nii.gz", "moving.nii.gz", "landmarks.csv"), "fixed_lobes.nii.gz"
SEED = 20_000_000  # of the phantoms for tests, none of which was trained on


@click.command("demo")
@click.option(
    "--out", type=options.FILE, default=Path("demo"), show_default=True, help="Folder for results."
)
@click.option("--method", type=click.Choice(METHODS[1:]), default="classical", show_default=True)
def command(out: Path, method: str) -> int:
    """Register a generated pair whose ground truth is known."""
    import numpy as np

    from jaxreg.phantom.pair import phantom_pair
    from jaxreg.pipeline.registration import register_volumes

    keep_compiled_programs()
    prepare_folder(out)
    if any((out / name).exists() for name in _PAIR) and not (out / _LOBES).exists():
        raise ValueError(
            f"--out: expected a folder without scans of yours, got {out}, which has "
            f"{' or '.join(_PAIR)}. Choose another folder."
        )
    click.echo("generating a breathing thorax ...")
    pair = phantom_pair(SEED, shape=(144, 112, 128), spacing_mm=(2.4, 2.4, 2.5))
    click.echo("registering ...")
    result = register_volumes(pair.fixed, pair.moving, method=method)
    result.save(out)
    _write_pair(out, pair)

    def errors(points):
        return np.linalg.norm(points - pair.moving_landmarks, axis=1)

    before, after = errors(pair.fixed_landmarks), errors(result.map_points(pair.fixed_landmarks))
    click.echo(
        f"{len(before)} landmarks: mean error {before.mean():.2f} mm before, {after.mean():.2f} mm "
        f"after (95th percentile {np.percentile(after, 95):.2f} mm)"
    )
    click.echo("\n".join(result.lines()))
    click.echo(f"written to {out}: look at report.png")
    return 0


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
