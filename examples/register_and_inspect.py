# %% [markdown]
# # Register two scans and inspect the result
#
# This script makes two lung CTs of one generated subject, at the end of inhalation and of
# exhalation, registers them, and asks of the result what one asks of any registration: is there a
# warning, does the field fold, how large is the error where it is known, what do the images show?
# Run it as a program,
#
#     python examples/register_and_inspect.py --out runs/register_and_inspect
#
# or cell by cell in an editor that knows `# %%`. With your own scans, read them by
# `jaxreg.read_image("fixed.nii.gz")` instead of generating them.

# %%
import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import jaxreg
from jaxreg.config import LungGridConfig
from jaxreg.metrics.landmarks import dice, tre
from jaxreg.phantom.pair import phantom_pair

parser = argparse.ArgumentParser(description="Register two generated scans; inspect the result.")
parser.add_argument("--out", type=Path, default=Path("runs/register_and_inspect"))
parser.add_argument("--quick", action="store_true", help="coarse images and grid, for a test")
options = parser.parse_known_args()[0]
options.out.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## Two scans
#
# A `Volume` is an array with an affine, which takes voxel indices to the world: millimetres to the
# right, to the front and to the head (RAS). The two scans may lie on different grids.

# %%
shape, grid = ((60, 48, 52), (64, 56, 64)) if options.quick else ((144, 112, 144), (144, 112, 144))
pair = phantom_pair(seed=7, shape=shape)
print(f"fixed: {pair.fixed.grid}")

# %% [markdown]
# ## Registration
#
# No lung masks are given, so the lungs are found. The default settings have a grid of 192 x 160 x
# 192 voxels around the lungs; a coarser one is faster.

# %%
config = jaxreg.RegistrationConfig(grid=LungGridConfig(shape=grid))
result = jaxreg.register_volumes(pair.fixed, pair.moving, config=config)

# %% [markdown]
# ## Is there a warning? Does the field fold?
#
# Warnings say what a person should look at. The certificate is a proof for the whole trilinear
# field, between the voxels too.

# %%
for warning in result.warnings:
    print(f"warning: {warning['text']}")
print(f"{len(result.warnings)} warnings")

certificate = result.summary["certificate"]
print(f"cells that are not proven free of folds: {certificate['uncertified']}")
before, after = (result.summary[f"correlation_{when}"] for when in ("before", "after"))
print(f"correlation in the lungs: {before:.3f} before, {after:.3f} after")

# %% [markdown]
# ## How large is the error?
#
# The generated subject has vessel branchings at known positions in both scans. The target
# registration error (TRE) is the distance between where a landmark is found and where it is.

# %%
initial_mm = tre(pair.fixed_landmarks, pair.moving_landmarks)
error_mm = tre(result.map_points(pair.fixed_landmarks), pair.moving_landmarks)
print(f"TRE: {initial_mm.mean():.2f} mm before, {error_mm.mean():.2f} mm after")

# %% [markdown]
# ## Apply the field
#
# `warp_labels` brings a label map of the moving scan to the fixed one. Dice measures the overlap
# with the labels that belong there: 1 is perfect.

# %%
lobes = result.warp_labels(pair.moving_labels)
overlap = dice(pair.fixed_labels.data, lobes.data)
print("Dice of the lobes:", ", ".join(f"{label}: {value:.2f}" for label, value in overlap.items()))

# %% [markdown]
# ## Look at it
#
# Coronal views, the patient's right on the left. The difference of the images should vanish in the
# lungs. The Jacobian determinant says how much the volume changes from the fixed to the moving
# image: below 1 it shrinks.


# %%
def coronal(image):
    """The middle coronal plane of an image whose axes run to the right, the front and the head."""
    return np.asarray(image.data)[::-1, image.shape[1] // 2].T


lungs = coronal(result.fixed_mask) > 0
warped, determinant = result.warp(), result.jacobian_determinant()
length_mm = np.linalg.norm(result.displacement.data, axis=-1)
length = jaxreg.Volume(length_mm, pair.fixed.affine)

gray = {"cmap": "gray", "vmin": -1000, "vmax": 200}
difference = {"cmap": "RdBu_r", "vmin": -600, "vmax": 600}
views = [
    ("fixed (inhaled)", coronal(pair.fixed), gray),
    ("moving (exhaled)", coronal(pair.moving), gray),
    ("moving, warped", coronal(warped), gray),
    ("fixed - moving, HU", coronal(pair.fixed) - coronal(pair.moving), difference),
    ("fixed - warped, HU", coronal(pair.fixed) - coronal(warped), difference),
    ("displacement, mm", np.where(lungs, coronal(length), np.nan), {"cmap": "viridis", "vmin": 0}),
    (
        "Jacobian determinant",
        np.where(lungs, coronal(determinant), np.nan),
        {"cmap": "PuOr", "vmin": 0.4, "vmax": 1.6},
    ),
]
dx, _, dz = pair.fixed.spacing_mm
figure, axes = plt.subplots(2, 4, figsize=(14, 7), layout="constrained")
for axis, (title, image, colours) in zip(axes.flat, views, strict=False):
    shown = axis.imshow(image, origin="lower", aspect=dz / dx, **colours)
    axis.set(title=title, xticks=[], yticks=[])
    if colours is not gray:
        figure.colorbar(shown, ax=axis, shrink=0.8)
last = axes.flat[-1]
for label, values in (("before", initial_mm), ("after", error_mm)):
    last.plot(np.sort(values), np.linspace(0, 100, len(values)), label=label)
last.set(xlabel="error of landmarks, mm", ylabel="landmarks below, %", title="known error")
last.legend()
figure.savefig(options.out / "inspect.png", dpi=80)

# %% [markdown]
# ## Keep it
#
# `save` writes the field, which Slicer, ITK, ANTs and elastix can apply, the warped image, maps of
# quality, `summary.json`, and a figure of all three planes.

# %%
result.save(options.out / "result")
print(f"written to {options.out}: look at inspect.png and result/report.png")
