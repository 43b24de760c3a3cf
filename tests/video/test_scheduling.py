"""Encoders leave the scheduling of threads as it was."""

import os
from pathlib import Path

import numpy as np
import pytest

from tokenflow.video import VideoWriter
from tokenflow.video.encoders import holds
from tokenflow.video.scheduling import THREADS, usual_scheduling

pytestmark = pytest.mark.skipif(not THREADS.is_dir(), reason="Linux lists threads there")


def policies() -> set[int]:
    return {os.sched_getscheduler(int(thread)) for thread in os.listdir(THREADS)}


def test_av1_makes_no_thread_real_time(tmp_path: Path) -> None:
    """As root, which may do so; as anyone else nothing is to be undone."""
    with VideoWriter(tmp_path / "a.mkv", width=64, height=64, rate=10, codec="av1") as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
        assert policies() == {os.SCHED_OTHER}


def test_asking_what_a_container_holds_makes_no_thread_real_time() -> None:
    assert holds("mkv", "av1")
    assert policies() == {os.SCHED_OTHER}


def test_a_thread_that_became_real_time_is_as_before() -> None:
    try:
        with usual_scheduling():
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pytest.skip("only root may make threads real-time")
    assert policies() == {os.SCHED_OTHER}
