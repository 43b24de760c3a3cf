"""A model of the Hub is downloaded in sight: file, bytes and percentage; and Cancel stops it."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.models.checkpoints.stub_hub import StubHub, serving
from tokenflow.apps.web.jobs import Job
from tokenflow.apps.web.progress_view import status_html
from tokenflow.apps.web.site import Site
from tokenflow.apps.web.work import trial_job
from tokenflow.events import Event, Progress
from tokenflow.models.checkpoints import downloads

NAME = "someone/model"


@pytest.fixture
def published(setup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    """A Hub with the tiny model, whose files come in small parts."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(downloads, "INTERVAL", 0.001)
    hub = StubHub()
    hub.add(NAME, setup / "model")
    with serving(hub, tmp_path / "cache", monkeypatch):
        yield hub


def run(site: Site, job: Job, monkeypatch: pytest.MonkeyPatch, listen: Any) -> None:
    """Do a job, and look at it after each of its events."""
    keep = job.on_event

    def on_event(event: Event) -> None:
        keep(event)
        listen(event)

    monkeypatch.setattr(job, "on_event", on_event)
    site.jobs.submit(job)
    pause = threading.Event()
    while not job.is_finished:
        pause.wait(0.01)


def test_file_bytes_and_percentage_are_shown_while_a_model_is_downloaded(
    published: StubHub, site: Site, values: dict[str, str], clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = trial_job(site.config(values | {"model.path": NAME}, clip), site.editor)
    seen: list[tuple[str, str]] = []

    def look(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "download":
            seen.append((status_html(job, 0), site.shelf.status))

    run(site, job, monkeypatch, look)
    assert job.state == "done", job.error
    shown = r"(unet|text_encoder|vae)/\S+\.safetensors and \d more\)?, \d+\.\d of \d+\.\d MB \(\d+ %\)"
    job_status, shelf_status = seen[-1]
    assert re.search(rf"Downloading \({NAME}: {shown}", job_status)
    assert re.search(rf"downloading {NAME}: {shown}", shelf_status)
    assert "(100 %)" in shelf_status
    assert site.shelf.status.startswith(f"loaded {NAME}")


def test_cancel_stops_a_download(
    published: StubHub, site: Site, values: dict[str, str], clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = trial_job(site.config(values | {"model.path": NAME}, clip), site.editor)

    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "download":
            job.stop.set()

    run(site, job, monkeypatch, stop)
    assert job.state == "cancelled"
    assert not [file for file in published.served if file.endswith(".safetensors")]
    assert site.shelf.is_settled
