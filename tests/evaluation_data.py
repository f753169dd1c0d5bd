"""What the tests of `jaxreg evaluate` share: the command, a known field, a small manifest."""

import json
from pathlib import Path

import numpy as np

from jaxreg.cli.app import main
from jaxreg.config import method_name
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.nifti import write_volume
from jaxreg.io.points import Landmarks, write_landmarks
from jaxreg.pipeline.result import Registration

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (22, 18, 14)
LABELLED_SPACING_MM = (2.0, 1.5, 3.0)


def evaluate(arguments):
    """Runs `jaxreg evaluate`; returns the exit status."""
    return main(arguments=["evaluate", *map(str, arguments)])


def voxel_displacement(points):
    """A linear field, which is sampled exactly: u(x) in voxels, (..., 3)."""
    slopes = np.array([[0.05, 0.0, 0.01], [0.0, -0.04, 0.0], [0.02, 0.0, 0.06]])
    return np.array([0.4, -0.9, 1.3]) + points @ slopes.T


def known_registration(calls):
    """In the place of `register_volumes`: the known field; notes the methods it is called with."""

    def register(fixed, moving, *, fixed_mask, moving_mask, config, params):
        calls.append(method_name(config))
        grid = np.stack(np.meshgrid(*map(np.arange, fixed.shape), indexing="ij"), axis=-1)
        u = voxel_displacement(grid).astype(np.float32)
        mask = Volume(np.ones(fixed.shape, np.uint8), fixed.affine)
        field = DisplacementField.from_voxels(u, fixed.affine)
        return Registration(fixed, moving, field, mask, np.eye(4), {"seconds": {}})

    return register


def write_labelled(folder):
    """A manifest of pairs "a/b" and "c" with lungs and points 5 mm apart; its path, the image."""
    rng = np.random.default_rng(0)
    affine = np.diag([-2.0, 1.5, 3.0, 1.0])
    labels = np.zeros(SHAPE, np.int32)
    labels[4:10, 4:12, 3:10], labels[12:18, 4:12, 3:10] = 1, 2
    ct = Volume(rng.uniform(-1000, 200, SHAPE).astype(np.float32), affine)
    write_volume(folder / "ct.nii.gz", ct)
    write_volume(folder / "labels.nii.gz", Volume(labels, affine))
    points = rng.uniform(5, 8, (7, 3))
    marks = Landmarks(points, points + [3.0, 0.0, 4.0], np.full(7, "vessel"))
    write_landmarks(folder / "points.csv", marks)
    pair = {"fixed": "ct.nii.gz", "moving": "ct.nii.gz", "landmarks": "points.csv"}
    pair |= {"fixed_labels": "labels.nii.gz", "moving_labels": "labels.nii.gz"}
    pair |= {"fixed_mask": "labels.nii.gz", "moving_mask": "labels.nii.gz"}
    pair |= {"keypoints": "points.csv"}
    manifest = folder / "pairs.json"
    manifest.write_text(json.dumps([pair | {"id": "a/b"}, pair | {"id": "c"}]), encoding="utf-8")
    return manifest, ct


def constant_field(grid, shift_mm):
    return DisplacementField(np.broadcast_to(shift_mm, (*grid.shape, 3)), grid.affine)


def rows_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["rows"]
