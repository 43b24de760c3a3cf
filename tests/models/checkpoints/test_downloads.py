"""Downloads report their bytes to the listener, which may stop them; the Hub's library draws no bars then."""

from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub import utils as hub

from tests.models.checkpoints.stub_hub import StubHub
from tokenflow.errors import Cancelled
from tokenflow.events import Event, Progress, listening
from tokenflow.models.checkpoints import downloads
from tokenflow.models.checkpoints.downloads import Received, download
from tokenflow.models.loading import load_model

NAME, SIZE = "someone/large", 300_000

FILES = ("a.safetensors", "unet/[b].safetensors")


@pytest.fixture
def large(stub_hub: StubHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The commit of a repository with two files, which come in many parts."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(downloads, "INTERVAL", 0.001)
    folder = tmp_path / "large"
    (folder / "unet").mkdir(parents=True)
    for number, file in enumerate((*FILES, "other.txt")):
        (folder / file).write_bytes(bytes([number]) * SIZE)
    return stub_hub.add(NAME, folder)


def test_the_bytes_of_a_download_are_reported(large: str, capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[Event] = []
    with listening(heard.append):
        download(NAME, large, FILES)
    reports = [event for event in heard if isinstance(event, Progress)]
    assert {(event.stage, event.total, event.label) for event in reports} == {
        ("download", 2 * SIZE, f"{NAME}: a.safetensors and 1 more")
    }
    done = [event.done for event in reports]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 2 * SIZE)
    assert any(0 < each < 2 * SIZE for each in done)
    assert "B/s" not in capfd.readouterr().err


def test_only_the_files_that_were_asked_for_are_downloaded(large: str, stub_hub: StubHub) -> None:
    with listening(lambda event: None):
        download(NAME, large, FILES)
    assert sorted(stub_hub.served) == sorted(FILES)


def test_a_listener_that_raises_stops_the_download_and_its_error_comes_back(large: str) -> None:
    def listen(event: Event) -> None:
        if isinstance(event, Progress) and event.done:
            raise ZeroDivisionError

    with listening(listen), pytest.raises(ZeroDivisionError):
        download(NAME, large, FILES)


def test_a_stopped_download_takes_no_more_bytes() -> None:
    received = Received()
    bar = received.bar_class()(total=10, unit="B", unit_scale=True, name="of the Hub")  # type: ignore[call-overload]
    bar.update(4)
    received.is_stopped = True
    with pytest.raises(Cancelled):
        bar.update(1)
    assert received.bytes == 4


def test_bars_of_files_count_no_bytes() -> None:
    received = Received()
    received.bar_class()(total=3).update(2)
    assert received.bytes == 0


def test_a_loaded_model_reports_its_download(stub_hub: StubHub, model: Path) -> None:
    stub_hub.add("someone/model", model)
    heard: list[Event] = []
    load_model("someone/model", device="cpu", on_event=heard.append)
    stages = [event.stage for event in heard if isinstance(event, Progress)]
    assert (stages[0], stages[-1]) == ("load", "load")
    assert "download" in stages
    weights = sum(file.stat().st_size for file in model.rglob("*.safetensors"))
    totals = [event.total for event in heard if isinstance(event, Progress) and event.stage == "download"]
    assert totals[-1] == weights
    assert not hub.are_progress_bars_disabled()
