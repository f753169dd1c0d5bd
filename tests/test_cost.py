"""Seconds, compilation and memory of a block."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import monitoring as jax_monitoring

from jaxreg.benchmark import cost as cost_module
from jaxreg.benchmark.cost import measured


def test_seconds_are_those_of_the_block():
    with measured() as cost:
        time.sleep(0.2)
    assert 0.2 <= cost.seconds < 5.0 and cost.compile_seconds == 0.0


def test_compilation_is_told_apart():
    @jax.jit
    def slow_to_compile(x):
        for k in range(40):
            x = jnp.sin(x) @ x + k
        return x

    x = np.ones((3, 3), np.float32)
    with measured() as first:
        slow_to_compile(x).block_until_ready()
    with measured() as second:
        slow_to_compile(x).block_until_ready()
    assert first.compile_seconds > 0.01 > second.compile_seconds == 0.0
    assert first.seconds >= 0.0 and second.seconds > 0.0


def test_memory_is_the_peak_of_the_block():
    with measured() as before:
        pass
    with measured() as large:
        block = np.ones(40_000_000)  # 320 MB, given back within
        del block
    with measured() as after:
        pass
    assert large.process_gb - before.process_gb == pytest.approx(0.32, abs=0.05)
    if cost_module._RESET.exists():  # Linux
        assert after.process_gb < large.process_gb - 0.2


def jax_listeners():
    return jax_monitoring.get_event_duration_listeners()


def test_an_error_leaves_no_listener():
    before = len(jax_listeners())
    with pytest.raises(KeyError), measured():
        raise KeyError
    assert len(jax_listeners()) == before


def test_device_memory_where_the_device_tells(monkeypatch):
    with measured() as cost:
        pass
    assert cost.device_gb is None or cost.device_gb >= 0.0

    class Device:
        def memory_stats(self):
            return {"peak_bytes_in_use": 4_000_000_000}

    monkeypatch.setattr(cost_module.jax, "local_devices", lambda: [Device()])
    with measured() as cost:
        pass
    assert cost.device_gb == 4.0


def test_systems_without_proc_give_the_peak_of_the_process(monkeypatch, tmp_path):
    monkeypatch.setattr(cost_module, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(cost_module, "_RESET", tmp_path / "none" / "either")
    with measured() as cost:
        pass
    assert 0.05 < cost.process_gb < 100
