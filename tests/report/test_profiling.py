"""Seconds and peak memory by stage, of stages in sequence and nested."""

import mmap
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from tokenflow.report.profiling import Stopwatch, peak_memory_mb

LINUX = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux, which has the peak there too")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the stopwatch reads, in seconds, set by the test."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_seconds_are_summed_per_stage(clock: list[float]) -> None:
    watch = Stopwatch()
    for name, seconds in (("read", 1.25), ("edit", 10.0), ("read", 0.5)):
        with watch.stage(name):
            clock[0] += seconds
        clock[0] += 100  # between the stages
    assert watch.figures()["seconds"] == {"read": 1.75, "edit": 10.0}


def test_a_failed_stage_is_timed(clock: list[float]) -> None:
    watch = Stopwatch()

    def work() -> None:
        with watch.stage("edit"):
            clock[0] += 3
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        work()
    assert watch.figures()["seconds"] == {"edit": 3.0}


@LINUX
def test_peak_memory_is_in_mebibytes() -> None:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    peak = float(status["VmHWM"].removesuffix("kB")) / 2**10
    # Measured later, so not less; more if the parent process was larger when it started this one.
    assert 0.99 * peak < (peak_memory_mb() or 0) < 2**20
    assert Stopwatch().figures()["peak_memory_mb"] >= round(0.99 * peak)


def can_reset_peaks() -> bool:
    """Whether the system lets a process reset its peak."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def touch(mebibytes: int) -> None:
    """Use memory mapped from the system: an allocator might reuse what it kept, and nothing would grow."""
    with mmap.mmap(-1, mebibytes * 2**20) as memory:
        for _ in range(mebibytes):
            memory.write(b"\1" * 2**20)


def peaks_of_large_between_small() -> tuple[Stopwatch, Stopwatch]:
    watch, inner = Stopwatch(), Stopwatch()
    with watch.stage("small"):
        touch(1)
    with watch.stage("outer"), inner.stage("large"):
        touch(128)
    with watch.stage("small again"):
        touch(1)
    return watch, inner


@pytest.mark.skipif(not can_reset_peaks(), reason="this system cannot reset the peak")
def test_each_stage_has_its_own_peak() -> None:
    watch, inner = peaks_of_large_between_small()
    peaks = watch.figures()["stage_peak_memory_mb"]
    larger = [peaks["outer"] - peaks[name] for name in ("small", "small again")]
    assert larger == pytest.approx([128, 128], abs=2)  # rounding, and Python's own memory
    assert inner.figures()["stage_peak_memory_mb"]["large"] == peaks["outer"]
    assert watch.figures()["peak_memory_mb"] == peaks["outer"]


def test_a_stage_entered_twice_has_the_larger_peak() -> None:
    watch = Stopwatch()
    for mebibytes in (128, 1):
        with watch.stage("edit"):
            touch(mebibytes)
    with watch.stage("other"):
        pass
    peaks = watch.figures()["stage_peak_memory_mb"]
    assert peaks["edit"] >= peaks["other"]


def test_without_resource_memory_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    watch = Stopwatch()
    with watch.stage("edit"):
        pass
    assert peak_memory_mb() is None
    assert set(watch.figures()) == {"seconds"}


class Cuda:
    """The counters of two CUDA devices, of which the test allocates memory in MiB."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peaks: Counter[int] = Counter()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: self.peaks[device.index] * 2**20)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: self.peaks.pop(device.index, None))

    def allocate(self, index: int, mebibytes: int) -> None:
        self.peaks[index] = max(self.peaks[index], mebibytes)


def test_gpu_memory_is_that_of_the_models_device(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    outer, inner = Stopwatch(torch.device("cuda:1")), Stopwatch(torch.device("cuda:0"))
    cuda.allocate(1, 900)  # before any stage
    with outer.stage("edit"):
        cuda.allocate(1, 30)
        with inner.stage("other"):
            cuda.allocate(0, 500)
            cuda.allocate(1, 20)
    with outer.stage("decode"):
        cuda.allocate(1, 40)
        cuda.allocate(0, 600)
    figures = outer.figures()
    assert figures["stage_peak_gpu_memory_mb"] == {"edit": 30, "decode": 40}
    assert figures["peak_gpu_memory_mb"] == 40
    assert inner.figures()["stage_peak_gpu_memory_mb"] == {"other": 500}


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_without_a_cuda_device_there_is_no_gpu_memory(
    device: torch.device | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = Cuda(monkeypatch)
    watch = Stopwatch(device)
    with watch.stage("edit"):
        cuda.allocate(0, 500)
    assert not [key for key in watch.figures() if "gpu" in key]
