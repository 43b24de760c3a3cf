"""Seconds and peak memory of the stages of a run."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""What Linux takes for `let the peak of the resident size begin anew` (proc(5))."""


class Stopwatch:
    """Seconds and peak memory of the stages of a run. Stages may lie inside others, those of other watches too.

    Where the system lets no peak begin anew (not Linux, or a locked-down container), a stage's peak is the process's so
    far: an upper bound.
    """

    _open: list["_Peaks"] = []  # noqa: RUF012 - of the whole process, since its counters are

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._peaks: dict[str, _Peaks] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside, and add it to the stage of that name."""
        start = time.perf_counter()
        peaks = self._peaks.setdefault(name, _Peaks())
        self._begin_anew()
        self._open.append(peaks)
        try:
            yield
        finally:
            self._begin_anew()
            self._open.remove(peaks)
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def figures(self) -> dict[str, Any]:
        """`seconds` by stage, and peak memory in MiB: `peak_memory_mb` of all, `stage_peak_memory_mb` by stage.

        Memory is the process's resident size. On a GPU there are `peak_gpu_memory_mb` and `stage_peak_gpu_memory_mb`
        too: what torch had allocated.
        """
        figures: dict[str, Any] = {
            "seconds": {name: round(seconds, 2) for name, seconds in self._seconds.items()},
            "peak_memory_mb": round(max([peak_memory_mb(), *(peaks.resident for peaks in self._peaks.values())])),
            "stage_peak_memory_mb": {name: round(peaks.resident) for name, peaks in self._peaks.items()},
        }
        if torch.cuda.is_available():
            by_stage = {name: round(peaks.gpu) for name, peaks in self._peaks.items()}
            figures["peak_gpu_memory_mb"] = max(by_stage.values(), default=0)
            figures["stage_peak_gpu_memory_mb"] = by_stage
        return figures

    def _begin_anew(self) -> None:
        """Tell the stages that are open of the peak so far, and let the next one begin."""
        for peaks in self._open:
            peaks.raise_to(peak_memory_mb(), _peak_gpu_memory_mb())
        with suppress(OSError):
            _CLEAR_REFS.write_text(_RESET_PEAK, encoding="utf-8")
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()


class _Peaks:
    """The most memory a stage has had, in MiB."""

    def __init__(self) -> None:
        self.resident = self.gpu = 0.0

    def raise_to(self, resident: float, gpu: float) -> None:
        self.resident, self.gpu = max(self.resident, resident), max(self.gpu, gpu)


def peak_memory_mb() -> float:
    """The largest resident size in MiB that this process has had, or has had since a stage began."""
    import resource  # POSIX has it alone

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _peak_gpu_memory_mb() -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_initialized() else 0.0
