"""A worker alone: what it keeps between jobs, what its results report, and how a job is stopped."""

from collections.abc import Iterator

import cv2
import pytest
import torch

from tests.batch.conftest import Configure
from tokenflow.batch import worker
from tokenflow.batch.worker import Worker, limit_threads
from tokenflow.errors import Cancelled, ConfigError, WaitingWarning
from tokenflow.events import Event, Listener, Notice, Progress
from tokenflow.video import decoding, read_frames


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the threads of torch and OpenCV."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def ignore(event: Event) -> None:
    """A listener."""


def test_a_stopped_job_leaves_no_result_and_the_worker_runs_the_next_one_on_the_same_model(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = worker.open_model
    monkeypatch.setattr(worker, "open_model", lambda settings: loads.append(settings) or load(settings))
    first, second = configure(1, 2)
    stop: list[bool] = []

    def stop_when_editing(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "edit":
            stop.append(True)

    runner = Worker()
    with pytest.raises(Cancelled):
        runner.run(first, stop_when_editing, cancel=lambda: bool(stop))
    assert not first.output.dir.exists()
    for config in (second, first):
        result = runner.run(config, ignore, cancel=lambda: False)
        assert not result.failed
        assert not result.inverted  # that was done before the stop
        assert (config.output.dir / "edited.mp4").exists()
    assert len(loads) == 1


def test_a_worker_loads_another_model_for_other_settings_of_it(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = worker.open_model
    monkeypatch.setattr(worker, "open_model", lambda settings: loads.append(settings.offload) or load(settings))
    runner = Worker()
    for config in (configure(1, 1)[0], configure(1, 1, "model.offload=true")[0]):
        runner.run(config, ignore)
    assert loads == [False, True]


def test_a_result_has_the_notices_of_its_job_apart_from_those_of_waiting(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices = [Notice("this will disappoint"), Notice("another run is making it", WaitingWarning)]

    def notify(*_: object, on_event: Listener, **__: object) -> None:
        for notice in notices:
            on_event(notice)

    monkeypatch.setattr(worker, "run", notify)
    received: list[Event] = []
    result = Worker().run(configure(1, 1)[0], received.append)
    assert result.warnings == ("this will disappoint",)
    assert received == notices


def test_an_error_of_the_listener_is_raised_even_where_the_work_made_another_of_it(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ConnectionAbortedError("the browser is gone")

    def wrap(*_: object, on_event: Listener, **__: object) -> None:
        try:
            on_event(Progress("edit", 0, 1))
        except OSError as cause:
            raise ConfigError("cannot write") from cause

    def fail(event: Event) -> None:
        raise error

    monkeypatch.setattr(worker, "run", wrap)
    with pytest.raises(ConnectionAbortedError) as raised:
        Worker().run(configure(1, 1)[0], fail)
    assert raised.value is error


@pytest.mark.usefixtures("threads")
def test_a_limit_of_threads_holds_for_torch_opencv_and_ffmpegs_decoders(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config,) = configure(1, 1)
    decoders = []
    create = decoding._create_decoder
    monkeypatch.setattr(decoding, "_create_decoder", lambda stream: decoders.append(create(stream)) or decoders[-1])
    for count in (3, 1):
        limit_threads(count)
        assert torch.get_num_threads() == cv2.getNumThreads() == count
        assert len(list(read_frames(config.clip.path))) == 4
        assert decoders.pop().thread_count == count
