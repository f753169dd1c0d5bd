import dataclasses

import numpy as np
import pytest

from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.nifti import read_volume
from jaxreg.pipeline import result
from jaxreg.pipeline.result import RESULT_SET, Registration, require_registered_grid

SHAPE = (9, 8, 7)
AFFINE = np.diag([-2.0, 1.5, 3.0, 1.0])


def shifted(error=None):
    """An image whose moving one lies two voxels further along x, and the field that says so."""
    data = np.random.default_rng(0).normal(-600.0, 200.0, SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:-3, 1:-1, 1:-1] = 1
    u = np.zeros((*SHAPE, 3), np.float32)
    u[..., 0] = 2.0
    return Registration(
        Volume(data, AFFINE),
        Volume(np.roll(data, 2, axis=0), AFFINE),
        DisplacementField.from_voxels(u, AFFINE),
        Volume(mask, AFFINE),
        np.eye(4),
        {},
        quality=Volume(mask.astype(np.float32), AFFINE),
        valid=Volume(mask, AFFINE),
        inverse_consistency=error,
    )


def test_measures_of_a_known_shift():
    measures = shifted().measures()
    assert measures["correlation_after"] == pytest.approx(1.0, abs=1e-5)
    assert abs(measures["correlation_before"]) < 0.3
    assert measures["folds_in_lungs"] == 0
    assert measures["jacobian_percentiles"] == pytest.approx(
        {"1": 1.0, "5": 1.0, "50": 1.0, "95": 1.0, "99": 1.0}
    )
    assert measures["inverse_consistency_mm"] == {}


def test_inverse_consistency_is_measured_in_the_lungs_alone():
    error = np.full(SHAPE, 9.0, np.float32)
    error[1:-3, 1:-1, 1:-1] = 0.5
    measures = shifted(Volume(error, AFFINE)).measures()
    assert measures["inverse_consistency_mm"] == {"50": 0.5, "95": 0.5, "99": 0.5}


def test_similarity_and_folds_are_told_of_the_part_that_was_measured():
    whole = shifted()
    valid = np.array(whole.valid.data)
    valid[3:] *= 2  # continued: there the field is wrong
    field = np.array(whole.displacement.data)
    field[3:] = 0
    wrong = dataclasses.replace(
        whole, displacement=DisplacementField(field, AFFINE), valid=Volume(valid, AFFINE)
    )
    assert wrong.measures()["correlation_after"] == pytest.approx(1.0, abs=1e-5)
    unknown = dataclasses.replace(wrong, valid=None)
    assert unknown.measures()["correlation_after"] < 0.9


@pytest.mark.parametrize(("fill", "outside"), [(None, 0.0), (7.0, 7.0)])
def test_outside_of_another_image_is_zero_unless_it_is_said(fill, outside):
    result = shifted()
    dose = Volume(np.full(SHAPE, 3.0, np.float32), AFFINE)
    warped = result.warp(image=dose, fill=fill).data
    assert set(np.unique(warped)) == {3.0, outside}
    assert result.warp().data[-1, 0, 0] == -1024.0
    assert result.warp(image=result.moving).data[-1, 0, 0] == -1024.0
    assert result.warp(fill=7.0).data[-1, 0, 0] == 7.0


SUMMARY = {
    "method": "classical",
    "correlation_before": 0.1,
    "correlation_after": 0.9,
    "folds_in_lungs": 0.0,
    "inverse_consistency_mm": {"50": 0.1, "95": 0.2, "99": 0.3},
    "certificate": {"uncertified": 0},
    "seconds": {"optimiser": 1.0},
}


def test_a_new_set_of_results_replaces_the_old_one_as_a_whole(tmp_path, monkeypatch):
    error = Volume(np.ones(SHAPE, np.float32), AFFINE)
    first = dataclasses.replace(shifted(error), summary=SUMMARY)
    first.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(RESULT_SET)
    bare = dataclasses.replace(shifted(), summary=SUMMARY, quality=None, valid=None)
    bare.save(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    maps = {"inverse_consistency.nii.gz", "quality.nii.gz", "valid.nii.gz"}
    assert names == set(RESULT_SET) - maps

    def full(path, volume):
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("jaxreg.pipeline.result.write_volume", full)
    with pytest.raises(OSError, match="room on the disk"):
        first.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_only_the_outputs_that_were_asked_for_are_written(tmp_path):
    result = dataclasses.replace(shifted(), summary=SUMMARY)
    result.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} > {"report.png", "quality.nii.gz"}
    result.save(tmp_path, outputs=("displacement", "valid"))  # files of the old set go
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"displacement.nii.gz", "valid.nii.gz", "summary.json"}
    with pytest.raises(ValueError, match="outputs: expected some of displacement, .* got field"):
        result.save(tmp_path, outputs=("field",))


@pytest.mark.parametrize("field_mm", [0.0, 4.0])
def test_a_saved_result_comes_back_as_it_was(tmp_path, field_mm):
    before = shifted()
    coarse = before.fixed.grid.coarsened(field_mm)
    assert coarse.shape == (SHAPE if field_mm == 0.0 else (5, 4, 6))
    field = before.displacement.on_grid(coarse)
    before = dataclasses.replace(before, displacement=field)
    grids = {f"{name}_grid": getattr(before, name).grid.document() for name in ("fixed", "moving")}
    certificate = {"uncertified": 0}
    summary = {"method": "m", "certificate": certificate, "seconds": {}, **before.measures()}
    summary |= {"prealignment_matrix": np.eye(4).tolist(), **grids}
    summary["config"] = {"field_spacing_mm": field_mm}
    before = dataclasses.replace(before, summary=summary)
    before.save(tmp_path)
    for name, image in [("warped", before.warp()), ("jacobian", before.jacobian_determinant())]:
        np.testing.assert_array_equal(read_volume(tmp_path / f"{name}.nii.gz").data, image.data)
    after = Registration.load(tmp_path, before.fixed, before.moving)
    np.testing.assert_array_equal(after.displacement.data, before.displacement.data)
    np.testing.assert_array_equal(after.displacement.affine, before.displacement.affine)
    points = before.fixed.world_from_voxel(np.array([[2.0, 3.0, 4.0], [1.5, 2.5, 3.5]]))
    np.testing.assert_array_equal(after.map_points(points), before.map_points(points))
    np.testing.assert_array_equal(after.warp().data, before.warp().data)
    labels = before.fixed_mask
    np.testing.assert_array_equal(after.warp_labels(labels).data, before.warp_labels(labels).data)
    pairs = [(after.inverse()[0], before.inverse()[0]), (after.fixed_mask, before.fixed_mask)]
    pairs += [(after.jacobian_determinant(), before.jacobian_determinant())]
    for found, expected in [*pairs, (after.quality, before.quality)]:
        np.testing.assert_array_equal(found.data, expected.data)
    assert after.measures() == before.measures() and after.lines() == before.lines()
    with pytest.raises(ValueError, match="moving: expected the image that was registered, on the"):
        moved = Volume(before.moving.data, AFFINE @ np.diag([2.0, 1.0, 1.0, 1.0]))
        Registration.load(tmp_path, before.fixed, moved)


def test_images_that_are_exchanged_are_told():
    fixed, moving = (Volume(np.zeros((3, 3, n), np.float32), np.eye(4)) for n in (4, 5))
    summary = {"fixed_grid": fixed.grid.document(), "moving_grid": moving.grid.document()}
    require_registered_grid(fixed, "fixed", summary)
    with pytest.raises(ValueError, match=r"fixed: .* grid of the moving one: exchange them\.$"):
        require_registered_grid(moving, "fixed", summary)
    require_registered_grid(moving, "fixed", {"fixed_grid": str(fixed.grid)})  # an earlier version


@pytest.mark.parametrize("step", [1, 2, 5])
def test_some_voxels_of_a_mask_are_taken_evenly(step):
    mask = np.random.default_rng(0).random((6, 5, 7)) < 0.6
    np.testing.assert_array_equal(result._some(mask, step), np.argwhere(mask)[::step])
