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
"""Written to `clear_refs`, resets the peak resident size on Linux (proc(5))."""


class Stopwatch:
    """Seconds and peak memory of the stages of a run. Stages may be nested, those of several stopwatches too.

    Where the system cannot reset the peak (anything but Linux, or a locked-down container), the peak of a stage is
    that of the process so far: an upper bound.

    Args:
        device: the model's device, whose peak memory is measured beside that of the process if it is a CUDA device;
            None for the process alone.
    """

    _open: list["_Peaks"] = []  # noqa: RUF012 - shared by all stopwatches, as the peaks are the process's

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device if device is not None and device.type == "cuda" else None
        self._seconds: dict[str, float] = {}
        self._peaks: dict[str, _Peaks] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body, and add it to the stage of that name."""
        start = time.perf_counter()
        peaks = self._peaks.setdefault(name, _Peaks(self._device))
        self._restart(peaks)
        self._open.append(peaks)
        try:
            yield
        finally:
            self._restart(peaks)
            self._open.remove(peaks)
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def figures(self) -> dict[str, Any]:
        """`seconds` by stage, and peak memory in MiB: `peak_memory_mb` of the run, `stage_peak_memory_mb` by stage.

        Memory is the process's resident size; it is left out where the system does not report it (Windows). On a CUDA
        device there are also `peak_gpu_memory_mb` and `stage_peak_gpu_memory_mb`: memory allocated by torch.
        """
        figures: dict[str, Any] = {"seconds": {name: round(seconds, 2) for name, seconds in self._seconds.items()}}
        peak = peak_memory_mb()
        if peak is not None:
            by_stage = {name: round(peaks.resident) for name, peaks in self._peaks.items()}
            figures["peak_memory_mb"] = max([round(peak), *by_stage.values()])
            figures["stage_peak_memory_mb"] = by_stage
        if self._device is not None:
            by_stage = {name: round(peaks.gpu) for name, peaks in self._peaks.items()}
            figures["peak_gpu_memory_mb"] = max(by_stage.values(), default=0)
            figures["stage_peak_gpu_memory_mb"] = by_stage
        return figures

    def _restart(self, peaks: "_Peaks") -> None:
        """Add the peaks so far to all open stages, and reset the counters that they and a starting stage read."""
        for each in self._open:
            each.update()
        with suppress(OSError):
            _CLEAR_REFS.write_text(_RESET_PEAK, encoding="utf-8")
        for device in {each.device for each in (*self._open, peaks) if each.device is not None}:
            if torch.cuda.is_initialized():
                torch.cuda.reset_peak_memory_stats(device)


class _Peaks:
    """The peak memory of a stage so far, in MiB: of the process, and of its CUDA device if it has one."""

    def __init__(self, device: torch.device | None) -> None:
        self.device = device
        self.resident = self.gpu = 0.0

    def update(self) -> None:
        self.resident = max(self.resident, peak_memory_mb() or 0.0)
        if self.device is not None and torch.cuda.is_initialized():
            self.gpu = max(self.gpu, torch.cuda.max_memory_allocated(self.device) / 2**20)


def peak_memory_mb() -> float | None:
    """The process's peak resident size in MiB since it started or a stage began; None where it is not reported."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
