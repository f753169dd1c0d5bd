"""A cohort: pairs of files, what is made of each, and a row of measures for each.

A pair's result set is done where its summary.json says that it was made from the same files (size
and time of their last change), settings, weights and version; nothing else is kept, so a run goes
on after any stop. Rows follow from summaries alone.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxreg.config import RegistrationConfig
from jaxreg.datasets.manifest import Pair
from jaxreg.geometry.volume import Volume
from jaxreg.io.documents import read_json
from jaxreg.io.images import read_grid
from jaxreg.io.points import Landmarks
from jaxreg.metrics import landmarks as metrics
from jaxreg.pipeline.result import Registration

Row = dict[str, Any]

OK, WARNED, FAILED = "ok", "warned", "failed"
COLUMNS = (
    *("id", "status", "error", "quality_right", "quality_left", "warnings"),
    *("correlation_before", "correlation_after", "folds_in_lungs", "uncertified_cells"),
    *("jacobian_p1", "jacobian_p5", "jacobian_p50", "jacobian_p95", "jacobian_p99"),
    *("landmarks", "tre_before_mean_mm", "tre_mean_mm", "tre_median_mm", "tre_p95_mm", "dice"),
    *("seconds", "peak_memory_gb", "folder"),
)
# Most memory in use, by benchmarks/full_size.py and benchmarks/pairs.py, with a reserve.
_BASE_BYTES, _BYTES_A_VOXEL = 2 << 30, 36
_OPENED = 3  # of the largest files; the others need no more
_WITH_DATA_BESIDE = (".mhd", ".nhdr", ".hdr", ".img")


@dataclasses.dataclass(frozen=True)
class Job:
    """A pair to register.

    Attributes:
        pair: its files.
        folder: of its result set.
        config: settings.
        made_from: what the result depends on, as it is kept in summary.json.
    """

    pair: Pair
    folder: Path
    config: RegistrationConfig
    made_from: Mapping[str, Any]


class Plan(NamedTuple):
    """What a run has to do.

    Attributes:
        done: row by id, of pairs with a result set made from the same.
        failed: row by id, of pairs whose files are missing.
        jobs: the others.
    """

    done: dict[str, Row]
    failed: dict[str, Row]
    jobs: list[Job]


def plan_cohort(
    pairs: Sequence[Pair], folders: Sequence[Path], *, config: RegistrationConfig
) -> Plan:
    """Finds out which pairs are done, and which cannot be.

    Args:
        pairs: with ids of their own.
        folders: of their result sets.
        config: settings.

    Returns:
        What is left to do.
    """
    plan = Plan({}, {}, [])
    general = {
        "config": json.loads(json.dumps(dataclasses.asdict(config))),  # lists for tuples
        "jaxreg": metadata.version("jaxreg"),
        "weights": _digest(config),
    }
    for pair, folder in zip(pairs, folders, strict=True):
        try:
            files = file_stamps(pair)
        except OSError as error:
            plan.failed[pair.id] = failed_row(pair.id, error)
            continue
        made_from = {**general, "files": files, "space": pair.space}
        summary = finished_summary(folder, made_from)
        if summary is None:
            plan.jobs.append(Job(_absolute(pair), folder.absolute(), config, made_from))
        else:
            plan.done[pair.id] = row_of(pair.id, folder.name, summary)
    return plan


def _absolute(pair: Pair) -> Pair:
    """The pair for workers that run in another folder."""
    paths = {
        field.name: value.absolute()
        for field in dataclasses.fields(Pair)
        if isinstance(value := getattr(pair, field.name), Path)
    }
    return dataclasses.replace(pair, **paths)


def _digest(config: RegistrationConfig) -> str | None:
    """The digest of the weights, where they take part."""
    if not config.network.enabled:
        return None
    from jaxreg.network.weights import load_named, weights_digest  # flax: only where needed

    return weights_digest(load_named(config.network.weights)[0])


def file_stamps(pair: Pair) -> dict[str, list[int]]:
    """Size in bytes and time of the last change, ns, of each input of a pair, by attribute.

    For a folder these are the sum and the latest of its files.

    Raises:
        FileNotFoundError: an input is missing; the text says which.
    """
    stamps = {}
    for name, path in input_files(pair):
        if not path.exists():
            raise FileNotFoundError(
                f"{name}: expected a file or a folder, got none at {path}. Correct the path."
            )
        found = [file.stat() for file in _files_of(path)]
        stamps[name] = [
            sum(one.st_size for one in found),
            max((one.st_mtime_ns for one in found), default=0),
        ]
    return stamps


def input_files(pair: Pair) -> Iterator[tuple[str, Path]]:
    """Yields attribute and path of each file of a pair that a registration reads or is scored by.

    Keypoints are left out: they are for training.
    """
    for field in dataclasses.fields(Pair):
        value = getattr(pair, field.name)
        if isinstance(value, Path) and field.name != "keypoints":
            yield field.name, value


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    if path.suffix.lower() in _WITH_DATA_BESIDE:
        return [file for file in path.parent.iterdir() if file.stem == path.stem]
    return [path]


def finished_summary(folder: Path, made_from: Mapping[str, Any]) -> dict[str, Any] | None:
    """The summary of a result set that was made from the same files and settings.

    Args:
        folder: of the result set.
        made_from: files, settings and versions to compare with.

    Returns:
        Content of summary.json; None if there is none, or it was made from others.
    """
    try:
        summary = read_json(folder / "summary.json")
        stored = {
            "config": summary["config"],
            "jaxreg": summary["versions"]["jaxreg"],
            "weights": summary["weights"],
            "files": summary["cohort"]["files"],
            "space": summary["cohort"]["space"],
        }
    except (OSError, ValueError, KeyError, TypeError):  # none, or not of a cohort
        return None
    return summary if stored == made_from else None


def scores(
    registration: Registration,
    *,
    landmarks: Landmarks | None = None,
    fixed_labels: Volume | None = None,
    moving_labels: Volume | None = None,
) -> dict[str, Any]:
    """What landmarks and labels say of a registration, for the summary.

    Args:
        registration: of the pair.
        landmarks: corresponding points.
        fixed_labels: on the grid of the fixed image.
        moving_labels: on that of the moving one.

    Returns:
        "tre_mm" with count, mean before, mean, median and 95th percentile, None without landmarks;
        "dice", the mean over labels after the registration, None without both label maps.
    """
    found: dict[str, Any] = {"tre_mm": None, "dice": None}
    if landmarks is not None:
        before = metrics.tre(landmarks.fixed, landmarks.moving)
        after = metrics.summary(
            metrics.tre(registration.map_points(landmarks.fixed), landmarks.moving)
        )
        found["tre_mm"] = {
            "count": after.count,
            "before_mean": float(before.mean()),
            "mean": after.mean,
            "median": after.median,
            "p95": after.p95,
        }
    if fixed_labels is not None and moving_labels is not None:
        overlap = metrics.dice(fixed_labels.data, registration.warp_labels(moving_labels).data)
        found["dice"] = float(np.mean(list(overlap.values()))) if overlap else None
    return found


def row_of(pair_id: str, folder: str, summary: Mapping[str, Any]) -> Row:
    """The row of a pair that was registered, with all of COLUMNS.

    Args:
        pair_id: its id.
        folder: name of the folder of its result set.
        summary: of the registration, "cohort" included.

    Returns:
        Numbers and text by column; None where there is no measure.
    """
    codes = [warning["code"] for warning in summary["warnings"]]
    cohort, ranks = summary["cohort"], summary["jacobian_percentiles"]
    tre = cohort["tre_mm"] or {}
    row = {
        "id": pair_id,
        "status": WARNED if codes else OK,
        "error": "",
        "warnings": " ".join(dict.fromkeys(codes)),
        "correlation_before": summary["correlation_before"],
        "correlation_after": summary["correlation_after"],
        "folds_in_lungs": summary["folds_in_lungs"],
        "uncertified_cells": summary["certificate"]["uncertified"],
        "landmarks": tre.get("count"),
        "dice": cohort["dice"],
        "seconds": cohort["seconds"],
        "peak_memory_gb": cohort["peak_memory_gb"],
        "folder": folder,
    }
    row |= {f"quality_{name}": lung["quality"] for name, lung in summary["lungs"].items()}
    row |= {f"jacobian_p{rank}": value for rank, value in ranks.items()}
    row |= {f"tre_{name}_mm": tre.get(name) for name in ("before_mean", "mean", "median", "p95")}
    return {name: row.get(name) for name in COLUMNS}


def failed_row(pair_id: str, error: BaseException | str) -> Row:
    """The row of a pair that could not be registered.

    Args:
        pair_id: of the pair.
        error: the reason.

    Returns:
        A value or None for each of COLUMNS.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    row = {"id": pair_id, "status": FAILED, "error": text, "warnings": ""}
    return {name: row.get(name) for name in COLUMNS}


def quality_of(row: Row) -> float | None:
    """Quality of the worse lung; None where there is no measure."""
    values = [row[name] for name in ("quality_right", "quality_left") if row[name] is not None]
    return min(values, default=None)


def bytes_needed(jobs: Sequence[Job]) -> int:
    """Memory that registering the largest of the pairs takes at most, estimated from headers."""
    largest = sorted(jobs, key=lambda job: -max(_size(job, "fixed"), _size(job, "moving")))
    voxels = [0]
    for job in largest[:_OPENED]:
        for path in (job.pair.fixed, job.pair.moving):
            try:
                voxels.append(int(np.prod(read_grid(path).shape)))
            except (OSError, ValueError, ImportError):  # its row has the error
                continue
    return _BASE_BYTES + _BYTES_A_VOXEL * max(voxels)


def _size(job: Job, name: str) -> int:
    return job.made_from["files"][name][0]
