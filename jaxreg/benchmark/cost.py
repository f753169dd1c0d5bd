"""What a call costs: seconds, of which compilation, and the most memory in use at once."""

import contextlib
import dataclasses
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.monitoring

_GB = 1e9
_COMPILATION = (  # these two do not overlap; tracing is not separate
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclasses.dataclass
class Cost:
    """Filled in when the block of `measured` ends.

    Attributes:
        seconds: wall time without compilation.
        compile_seconds: compilation, which a second call on the same shapes is spared.
        process_gb: greatest resident memory of the process, 1e9 bytes; on systems other than
            Linux since the process began.
        device_gb: greatest memory in use on the device since the process began, 1e9 bytes; None
            where the device does not report it, as a CPU.
    """

    seconds: float = 0.0
    compile_seconds: float = 0.0
    process_gb: float = 0.0
    device_gb: float | None = None


@contextlib.contextmanager
def measured() -> Iterator[Cost]:
    """Yields a `Cost` that is filled in when the block ends."""
    cost = Cost()
    compiling = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event in _COMPILATION:
            compiling.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    _reset_peak()
    began = time.perf_counter()
    try:
        yield cost
    finally:
        total = time.perf_counter() - began
        jax.monitoring.unregister_event_duration_listener(listen)
        cost.compile_seconds = float(sum(compiling))
        cost.seconds = max(0.0, total - cost.compile_seconds)
        cost.process_gb = _peak_bytes() / _GB
        stats = jax.local_devices()[0].memory_stats()
        cost.device_gb = stats["peak_bytes_in_use"] / _GB if stats else None


def _reset_peak() -> None:
    """Starts the kernel's peak anew; see proc(5). Elsewhere the peak is that of the process."""
    with contextlib.suppress(OSError):
        _RESET.write_text("5", encoding="utf-8")


def _peak_bytes() -> float:
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024.0 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) if sys.platform == "darwin" else 1024.0 * peak
