import json
import logging

import jax
import jax.numpy as jnp
import pytest

from jaxreg.training.records import Records


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_means_of_intervals_and_of_validation_are_kept(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="jaxreg")
    records = Records(tmp_path / "log.jsonl", 2, done=4, steps=8)
    for loss in (1.0, 2.0, 6.0):
        records.add({"loss": jnp.float32(loss)})
    records.end_interval()
    measures = [{"tre_mm": mm, "initial_mm": 4.0, "folds": 0.25} for mm in (1.0, 2.0)]
    records.validated("own", [jax.tree.map(jnp.float32, m) for m in measures])
    interval, own = lines_of(tmp_path / "log.jsonl")
    assert interval.pop("steps_per_s") > 0
    assert interval == {"step": 7, "loss": 3.0}
    assert own == {"step": 7, "own_tre_mm": 1.5, "own_initial_mm": 4.0, "own_folds": 0.25}
    assert caplog.messages[0].startswith("level 2 step 7/8 loss 3 | ")
    assert caplog.messages[1] == "level 2 step 7/8 own: 1.50 mm (initial 4.00), folds 25.000 %"


def test_lines_after_the_step_resumed_from_and_torn_ones_are_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n{"ste', encoding="utf-8")
    Records(path, 1, done=4, steps=8)
    assert lines_of(path) == [{"step": 2}, {"step": 4}]


def test_the_step_and_the_term_that_are_not_finite_are_named(tmp_path):
    records = Records(tmp_path / "log.jsonl", 3, done=10, steps=20)
    records.add({"loss": jnp.float32(1.0), "volume": jnp.float32(2.0)})
    records.add({"loss": jnp.float32(1.0), "volume": jnp.float32(jnp.inf)})
    with pytest.raises(FloatingPointError, match="level 3: .* got volume = inf at step 12"):
        records.end_interval()
    assert lines_of(tmp_path / "log.jsonl") == []
