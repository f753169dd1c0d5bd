"""A worker process of `jaxreg cohort`: one pair after the other, programs compiled once."""

import logging
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

from jaxreg.cli import session
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import PairFiles, register_files
from jaxreg.cli.memory import share_arenas

if TYPE_CHECKING:
    from jaxreg.pipeline.cohort import Job, Row


def work(job: "Job") -> "Row":
    """Registers a pair and writes its result set.

    Args:
        job: the pair.

    Returns:
        Its row; that of a failure where it cannot be registered, whatever the reason.
    """
    from jaxreg.pipeline.cohort import failed_row

    try:
        return _registered(job)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        return failed_row(job.pair.id, error)
    except MemoryError:
        return failed_row(job.pair.id, "out of memory. Crop the images to the chest.")
    except Exception as error:  # a fault of ours: the other pairs can still be done
        logging.getLogger("jaxreg").exception("%s", job.pair.id)
        return failed_row(job.pair.id, f"{type(error).__name__}: {error}")


def _registered(job: "Job") -> "Row":
    from jaxreg.benchmark.cost import measured
    from jaxreg.pipeline.cohort import finished_summary, row_of, scores

    installed = metadata.version("jaxreg")
    if installed != job.made_from["jaxreg"]:
        raise ImportError(
            f"worker: expected jaxreg {job.made_from['jaxreg']}, as where the command runs, got "
            f"{installed}. Install the same version on all machines."
        )
    finished = finished_summary(job.folder, job.made_from)
    if finished is not None:  # by a worker that died before it could say so
        return row_of(job.pair.id, job.folder.name, finished)
    share_arenas()
    keep_compiled_programs()
    pair, began = job.pair, time.perf_counter()
    with session.warnings_as_lines(quiet=True), measured() as cost:
        truth = _ground_truth(job)
        files = PairFiles(pair.fixed, pair.moving, pair.fixed_mask, pair.moving_mask)
        registration, _ = register_files(files, settings=job.config)
        measures = scores(registration, **truth)
    registration.summary["cohort"] = {
        "id": pair.id,
        "files": job.made_from["files"],
        "space": pair.space,
        "seconds": round(time.perf_counter() - began, 3),
        "peak_memory_gb": round(cost.process_gb, 3),
        **measures,
    }
    registration.save(job.folder)
    return row_of(pair.id, job.folder.name, registration.summary)


def _ground_truth(job: "Job") -> dict[str, Any]:
    """Landmarks and labels of a pair; damaged files fail before the work."""
    from jaxreg.io.images import read_grid, read_labels
    from jaxreg.io.points import read_landmarks

    pair, found = job.pair, {}
    if pair.landmarks is not None:
        found["landmarks"] = read_landmarks(pair.landmarks, space=pair.space)
    if pair.fixed_labels is not None and pair.moving_labels is not None:
        found["fixed_labels"] = read_labels(pair.fixed_labels, grid=read_grid(pair.fixed))
        found["moving_labels"] = read_labels(pair.moving_labels)
    return found
