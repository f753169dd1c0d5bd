"""Motion of the synthetic training pairs beside measured respiratory motion.

    python benchmarks/synthetic_motion.py --anatomies WORKDIR/anatomies --config CONFIG.py
                                          [--pairs 64] [--json OUT]

What the best affine map leaves of the displacement of lung points: its root mean square, its 95th
percentile, and the fraction of its power that a cubic polynomial explains; 10th, 50th and 90th
percentile over pairs. The measured figures are statistics of landmarks of DIR-Lab 4DCT and COPDgene
cases (`breathing_motion.json` of the development data), no coordinates. The last column is the
fraction of lung points that both images show.
"""

import itertools
import json
import os
from pathlib import Path

import jax
import numpy as np
from harness import parser, print_rows

from jaxreg.config import load_config
from jaxreg.training.anatomies import load_anatomies
from jaxreg.training.sources import stream_grid
from jaxreg.training.synthetic import draw

COLUMNS = ("after affine, RMS mm", "95th percentile mm", "explained by cubic", "shown")
LEVEL = 2  # of the stream: fine enough for motion, quick to draw


def residual(points, motion, degree):
    """Motion (N, 3) that no polynomial of the places explains."""
    relative = (points - points.mean(axis=0)) / np.ptp(points, axis=0)
    powers = [p for p in itertools.product(range(degree + 1), repeat=3) if sum(p) <= degree]
    columns = np.stack([np.prod(relative ** np.array(p), axis=1) for p in powers], axis=1)
    return motion - columns @ np.linalg.lstsq(columns, motion, rcond=None)[0]


def figures(points, motion):
    """Root mean square, 95th percentile, fraction explained by a cubic polynomial."""
    left = residual(points, motion, 1)
    length = np.linalg.norm(left, axis=1)
    power = (length**2).mean()
    cubic = (residual(points, motion, 3) ** 2).sum(axis=1).mean()
    return np.sqrt(power), np.percentile(length, 95), 1.0 - cubic / power


def drawn(config, folder, count):
    """Figures of `count` synthetic pairs, and the fraction of points shown."""
    anatomies = load_anatomies(sorted(folder.glob("*.npz")), level=LEVEL)
    settings = {"grid": stream_grid(config), "level": LEVEL, "config": config.synthetic}
    rows = []
    for index in range(count):
        pair = jax.device_get(draw(jax.random.key(index), anatomies, **settings))
        shown = pair.keypoint_weights > 0
        points = (pair.moving_keypoints * pair.spacing_mm)[shown]
        motion = (pair.fixed_keypoints * pair.spacing_mm)[shown] - points
        if shown.sum() > 100 and np.abs(motion).max() > 0:
            rows.append((*figures(points, motion), shown.mean()))
    return np.array(rows)


def measured(path):
    """Figures of the real cases by group."""
    groups = json.loads(path.read_text(encoding="utf-8"))
    keys = ("rms_mm", "p95_mm", "share_explained_by_cubic")
    return {
        name: np.array([[c["after_affine"][key] for key in keys] for c in groups[name].values()])
        for name in ("cases", "copdgene")
    }


def summary(name, figures):
    """A row: three percentiles of each figure of a set."""
    ends = (10, 50, 90) if "synthetic" in name else (0, 50, 100)
    cells = [" / ".join(f"{v:.2f}" for v in np.percentile(c, ends)) for c in figures.T]
    return {"set": name} | dict(zip(COLUMNS, [*cells, None], strict=False))


def main():
    """Prints the table."""
    arguments = parser(__doc__)
    shared = Path(os.environ.get("JAXREG_SHARED", "../shared"))
    arguments.add_argument("--anatomies", type=Path, required=True)
    arguments.add_argument("--config", type=Path, required=True)
    arguments.add_argument("--pairs", type=int, default=64)
    arguments.add_argument(
        "--measured", type=Path, default=shared / "data" / "breathing_motion.json"
    )
    options = arguments.parse_args()
    real = measured(options.measured)
    sets = {
        "4DCT, cases 1-5": real["cases"],
        "COPDgene, cases 1-4": real["copdgene"],
        f"{options.pairs} synthetic pairs": drawn(
            load_config(options.config), options.anatomies, options.pairs
        ),
    }
    print("10th, 50th and 90th percentile over pairs (measured: least, median, most)\n")
    print_rows((summary(name, figures) for name, figures in sets.items()), options)


if __name__ == "__main__":
    main()
