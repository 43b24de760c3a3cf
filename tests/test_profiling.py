"""Seconds and memory by stage, of stages beside and inside each other."""

import mmap
import time
from pathlib import Path

import pytest

from tokenflow.profiling import peak_memory_mb
from tokenflow.report import Stopwatch

LINUX = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells the peak a second time there")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the stopwatch reads, in seconds; to be set by the test."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_a_stopwatch_sums_each_stages_seconds(clock: list[float]) -> None:
    watch = Stopwatch()
    for name, seconds in (("read", 1.25), ("edit", 10.0), ("read", 0.5)):
        with watch.stage(name):
            clock[0] += seconds
        clock[0] += 100  # between the stages
    assert watch.figures()["seconds"] == {"read": 1.75, "edit": 10.0}


def test_a_stage_that_fails_is_timed_too(clock: list[float]) -> None:
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
    # Measured later, so not less; and more where the process that started this one had been larger.
    assert peak_memory_mb() > 0.99 * peak
    assert peak_memory_mb() < 2**20
    assert Stopwatch().figures()["peak_memory_mb"] >= round(0.99 * peak)


def peaks_anew() -> bool:
    """Whether the system lets a peak begin anew."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def touch(mebibytes: int) -> None:
    """Use memory that comes from the system: an allocator may hand out what it had kept, and nothing would grow."""
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


@pytest.mark.skipif(not peaks_anew(), reason="this system lets no peak begin anew")
def test_each_stage_has_its_own_peak() -> None:
    watch, inner = peaks_of_large_between_small()
    peaks = watch.figures()["stage_peak_memory_mb"]
    larger = [peaks["outer"] - peaks[name] for name in ("small", "small again")]
    assert larger == pytest.approx([128, 128], abs=2)  # rounded figures, and what Python itself took meanwhile
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
