# %% [markdown]
# # Train the networks on your own pairs
#
# This script writes a few pairs of images to a folder as you would have them, lists them in a
# manifest, trains a small cascade of two levels on them, shows the progress of the training, and
# registers a pair that was held out with the trained networks. Run it as a program,
#
#     python examples/train_on_own_pairs.py --out runs/train_on_own_pairs
#
# or cell by cell in an editor that knows `# %%`.
#
# **The networks that it makes are of no use.** They see a handful of generated pairs for some
# steps, so that the script ends in minutes on a CPU. A training for use takes the configuration
# `cascade`, hundreds of pairs and a GPU.

# %%
import argparse
import dataclasses
import json
import logging
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import jaxreg
from jaxreg.config import LungGridConfig, with_levels
from jaxreg.configs.smoke import config as smoke
from jaxreg.datasets.manifest import read_manifest
from jaxreg.io.nifti import write_volume
from jaxreg.io.points import Landmarks, write_landmarks
from jaxreg.metrics.landmarks import tre
from jaxreg.phantom.pair import phantom_pair
from jaxreg.training.run import train

parser = argparse.ArgumentParser(description="Train a small cascade on generated pairs of files.")
parser.add_argument("--out", type=Path, default=Path("runs/train_on_own_pairs"))
parser.add_argument("--quick", action="store_true", help="fewer pairs and steps, for a test")
options = parser.parse_known_args()[0]
logging.basicConfig(level=logging.WARNING, format="%(message)s")
logging.getLogger("jaxreg").setLevel(logging.INFO)

# %% [markdown]
# ## The pairs
#
# Each pair needs two images. Lung masks or lobes (`fixed_labels`, `moving_labels`) and
# corresponding points (`keypoints`) are used where you have them, and found where you have none.

# %%
data = options.out / "data"
data.mkdir(parents=True, exist_ok=True)
count, shape = (1, (60, 48, 52)) if options.quick else (8, (96, 80, 96))


def write_pair(seed):
    """Writes the files of a pair; returns its entry in a manifest, with paths relative to it."""
    pair = phantom_pair(seed, shape=shape)
    entry = {"id": f"pair_{seed}"}
    for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
        entry[name] = f"{seed}_{name}.nii.gz"
        write_volume(data / entry[name], getattr(pair, name))
    entry["keypoints"] = f"{seed}_keypoints.csv"
    kind = np.full(len(pair.fixed_landmarks), "vessel")
    points = Landmarks(pair.fixed_landmarks, pair.moving_landmarks, kind)
    write_landmarks(data / entry["keypoints"], points)
    return entry


manifests = {}
for name, seeds in (("training", range(count)), ("validation", range(100, 101))):
    manifests[name] = data / f"{name}.json"
    entries = [write_pair(seed) for seed in seeds]
    manifests[name].write_text(json.dumps(entries, indent=1), encoding="utf-8")

# %% [markdown]
# ## The configuration
#
# A configuration is a frozen object; `dataclasses.replace` changes a part of it. Tuples of one
# value a level begin with the finest level. Here the coarsest level of `smoke` is left out.

# %%
steps = (4,) if options.quick else (60, 60)
config = with_levels(smoke, steps)
config = dataclasses.replace(
    config,
    network=dataclasses.replace(config.network, widths=(4,) if options.quick else (8, 16)),
    training=dataclasses.replace(config.training, log_every=2, checkpoint_every=steps[0] // 4),
)

# %% [markdown]
# ## The training
#
# The same as `jaxreg train --config FILE.py --data training.json --validation validation.json
# --workdir WORKDIR`. The coarsest level is trained first. A training that was stopped goes on when
# it is started again; here it begins anew if the folder is empty.

# %%
workdir = options.out / "training"
train(config, workdir, data=str(manifests["training"]), validation=manifests["validation"])

# %% [markdown]
# ## How it went
#
# Each level appends its metrics to `log.jsonl`: the loss and its terms, and at checkpoints the
# error on the pairs held out, in millimetres.

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for level in range(len(steps), 0, -1):
    text = (workdir / f"level_{level}" / "log.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    for axis, name in zip(axes, ("loss", "validation_tre_mm"), strict=True):
        found = [(row["step"], row[name]) for row in rows if name in row]
        axis.plot(*zip(*found, strict=True), marker=".", label=f"level {level}")
for axis, name in zip(axes, ("loss, training", "TRE of the pair held out, mm"), strict=True):
    axis.set(xlabel="step", title=name)
    axis.legend()
figure.savefig(options.out / "training.png", dpi=80)

# %% [markdown]
# ## The trained networks
#
# `weights.npz` holds the parameters and the settings of the networks. "affine" is the linear
# prealignment alone, which comes before the networks. On the command line it is
# `jaxreg register FIXED MOVING --weights weights.npz --method cascade`.

# %%
params, network = jaxreg.load_weights(workdir / "weights.npz")
held_out = read_manifest(manifests["validation"])[0].load()
points = held_out.keypoints
settings = jaxreg.RegistrationConfig(grid=LungGridConfig(shape=(64, 56, 64)))
settings = dataclasses.replace(
    settings, network=dataclasses.replace(settings.network, architecture=network)
)
print(f"TRE without registration: {tre(points.fixed, points.moving).mean():.2f} mm")
for method in ("cascade",) if options.quick else ("affine", "cascade"):
    result = jaxreg.register_volumes(
        held_out.fixed, held_out.moving, method=method, config=settings, params=params
    )
    error_mm = tre(result.map_points(points.fixed), points.moving)
    print(f"TRE with {method}: {error_mm.mean():.2f} mm")
print(f"written to {options.out}: look at training.png")
