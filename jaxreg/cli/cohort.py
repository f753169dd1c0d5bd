"""`jaxreg cohort`: many pairs registered by several processes, in a run that can be stopped."""

import dataclasses
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxreg.cli import cohort_worker, options
from jaxreg.cli.files import prepare_folder
from jaxreg.cli.progress import counted

if TYPE_CHECKING:
    from distributed import Client

    from jaxreg.datasets.manifest import Pair
    from jaxreg.pipeline.cohort import Job, Plan, Row

_GIB = 1 << 30
_SCALED = 4  # workers for which tasks wait at a scheduler, which may start some then
_RESERVED = ("results.csv", "index.html")


@click.command("cohort")
@click.argument("table", type=options.FILE)
@options.folder
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes on this machine; default: as many as cores and free memory allow.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Dask scheduler to use instead, such as tcp://10.0.0.1:8786.",
)
@options.field_spacing
@options.settings
@options.strict
@options.as_json
@options.quiet
def command(
    table: Path,
    out: Path,
    workers: int | None,
    scheduler: str | None,
    registering: options.Registering,
    strict: bool,
    as_json: bool,
    quiet: bool | None,
) -> int:
    """Register the pairs of a table.

    TABLE is a CSV file with the columns id, fixed and moving, and perhaps fixed_mask, moving_mask,
    fixed_labels, moving_labels, landmarks and space; or a manifest (.json). Paths are relative to
    it. OUT/ID receives what `jaxreg register` writes, OUT/results.csv a row a pair, and
    OUT/index.html shows all of them, the worst quality first.

    A run that was stopped, however it was, goes on where it ended. A pair that fails is a row with
    its error and does not stop the others; the exit status is then 1.

    \b
    Example:
      jaxreg cohort pairs.csv --out results
    \f
    Returns:
        Exit status.
    """
    from jaxreg.benchmark.cohort_page import write_cohort
    from jaxreg.pipeline.cohort import FAILED, OK, WARNED, plan_cohort
    from jaxreg.pipeline.workers import require_dask

    require_dask()
    if workers and scheduler:
        raise ValueError(
            "--workers, --scheduler: expected one of the two, got both. The scheduler has workers."
        )
    pairs = _read(table)
    if registering.weights and Path(registering.weights).is_file():
        path = str(Path(registering.weights).absolute())  # workers may run in another folder
        registering = dataclasses.replace(registering, weights=path)
    settings = registering.settings()
    folders = _folders(pairs, out)
    prepare_folder(out)
    plan = plan_cohort(pairs, folders, config=settings)
    _check_some(table, pairs, plan)
    rows = {**plan.done, **plan.failed}

    def write() -> None:
        write_cohort(out, [rows[pair.id] for pair in pairs if pair.id in rows], total=len(pairs))

    write()
    with counted(len(plan.jobs), quiet=quiet) as count:
        count.say(_beginning(pairs, plan, out))
        for row in plan.failed.values():
            count.say(_line(row))
        for row in _results(plan.jobs, workers, scheduler, count.say):
            rows[row["id"]] = row
            write()
            count.done(f"[{len(rows)}/{len(pairs)}] {_line(row)}")
    statuses = [row["status"] for row in rows.values()]
    counts = {status: statuses.count(status) for status in (OK, WARNED, FAILED)}
    if as_json:
        document = {**counts, "rows": [rows[pair.id] for pair in pairs]}
        click.echo(json.dumps(document, indent=2))
    else:
        words = ", ".join(f"{count} {status}" for status, count in counts.items())
        click.echo(f"{len(pairs)} pairs: {words}")
        click.echo(f"written to {out}: look at index.html")
    return 1 if counts[FAILED] else options.WARNED if strict and counts[WARNED] else 0


def _read(table: Path) -> "Sequence[Pair]":
    """The pairs of a table or of a manifest; says which columns are left alone."""
    from jaxreg.datasets.manifest import list_manifest
    from jaxreg.datasets.pair_table import read_pair_table

    if table.suffix.lower() == ".json":
        return list_manifest(table)
    pairs, unused = read_pair_table(table)
    if unused:
        click.echo(f"warning: columns that are not used: {', '.join(unused)}", err=True)
    return pairs


def _folders(pairs: "Sequence[Pair]", out: Path) -> list[Path]:
    """The folder of each pair's result set.

    Raises:
        ValueError: ids that make no folders of their own.
    """
    from jaxreg.benchmark.naming import file_name

    taken: dict[str, str] = {}
    for pair in pairs:
        name = file_name(pair.id)
        if name.startswith(".") or name.lower() in _RESERVED:
            raise ValueError(
                f"id: expected a name for a folder, not hidden and none of {', '.join(_RESERVED)}, "
                f"got '{pair.id}'. Choose another id."
            )
        if name.lower() in taken:
            raise ValueError(
                f"id: expected ids that differ in more than upper and lower case, got "
                f"'{taken[name.lower()]}' and '{pair.id}'. Some disks take them for one."
            )
        taken[name.lower()] = pair.id
    return [out / file_name(pair.id) for pair in pairs]


def _check_some(table: Path, pairs: "Sequence[Pair]", plan: "Plan") -> None:
    """Refuses a table of whose pairs none is there: one mistake, not one a pair."""
    if len(plan.failed) == len(pairs):
        error = next(iter(plan.failed.values()))["error"]
        raise ValueError(
            f"{table}: expected files relative to the folder of the table, got none of any pair. "
            f"The first: {error}"
        )


def _beginning(pairs: "Sequence[Pair]", plan: "Plan", out: Path) -> str:
    words = f"{len(pairs)} pairs: {len(plan.jobs)} to register"
    if plan.done:
        words += f", {len(plan.done)} done before in {out}"
    if plan.failed:
        words += f", {len(plan.failed)} without their files"
    return words


def _line(row: "Row") -> str:
    """A row in words."""
    from jaxreg.pipeline.cohort import FAILED, quality_of

    if row["status"] == FAILED:
        return f"{row['id']}: failed: {row['error']}"
    codes = f" ({row['warnings'].replace(' ', ', ')})" if row["warnings"] else ""
    words = [f"{row['id']}: {row['status']}{codes}"]
    quality = quality_of(row)
    if quality is not None:
        words.append(f"quality {quality:.2f}")
    words.append(f"correlation {row['correlation_before']:.3f} to {row['correlation_after']:.3f}")
    if row["tre_mean_mm"] is not None:
        words.append(f"TRE {row['tre_before_mean_mm']:.2f} to {row['tre_mean_mm']:.2f} mm")
    return ", ".join([*words, f"{row['seconds']:.0f} s"])


def _results(
    jobs: "Sequence[Job]",
    workers: int | None,
    scheduler: str | None,
    say: Callable[[str], None],
) -> "Iterator[Row]":
    """Yields the row of each job as it comes from the workers."""
    from jaxreg.pipeline.workers import finished

    if not jobs:
        return
    count = _SCALED if scheduler else _count(jobs, workers, say)
    with _client(count, scheduler, say) as client:
        for job, result in finished(client, cohort_worker.work, jobs, expected=count):
            yield _row(job, result)


def _row(job: "Job", result: Any) -> "Row":
    """The row that a worker gave, or that of its failure."""
    from distributed import KilledWorker

    from jaxreg.pipeline.cohort import failed_row

    if isinstance(result, KilledWorker):
        return failed_row(
            job.pair.id,
            "its worker process died each time it was tried, perhaps for want of memory. Use fewer "
            "--workers, or crop the images to the chest.",
        )
    return failed_row(job.pair.id, result) if isinstance(result, BaseException) else result


def _count(jobs: "Sequence[Job]", asked: int | None, say: Callable[[str], None]) -> int:
    """Number of workers on this machine: as many as asked for, or as its memory allows."""
    from jaxreg.pipeline.cohort import bytes_needed
    from jaxreg.pipeline.workers import free_bytes, free_cores

    cores, need, free = free_cores(), bytes_needed(jobs), free_bytes()
    fitting = 1 if _has_gpu() else min(cores, free // need)
    count = min(asked or max(1, fitting), len(jobs))
    say(
        f"workers: {count}, on {cores} cores; a pair takes up to {need / _GIB:.1f} GiB of memory, "
        f"of which {free / _GIB:.1f} GiB are free"
    )
    return count


def _client(
    count: int, scheduler: str | None, say: Callable[[str], None]
) -> "AbstractContextManager[Client]":
    """Workers of a scheduler, or new ones on this machine."""
    from jaxreg.pipeline.workers import free_cores, local_workers, workers_of

    if scheduler:
        return workers_of(scheduler)
    cores = free_cores()
    # Of XLA's pool: with one thread alone its compiler rounds sums in another order.
    threads = max(min(2, cores), cores // count)
    return local_workers(
        count,
        threads=threads,
        on_loss=lambda: say("warning: a worker process died; its pair is tried again."),
    )


def _has_gpu() -> bool:
    """Whether JAX will use a GPU, whose memory one process takes."""
    first = (os.environ.get("JAX_PLATFORMS") or "cuda").partition(",")[0]
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    return first != "cpu" and any(map(importlib.util.find_spec, plugins))
