"""Models of random weights in the shapes in which people have them."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.checkpoints.stub_hub import StubHub, serving
from tests.tiny import save_tiny_model, tiny_xl_pipeline


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture(scope="session")
def saved_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "xl"
    tiny_xl_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def stub_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    """A Hub that serves what is added to it; nothing else can be reached."""
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> Any:
        assert address[0] == "127.0.0.1", f"{address} was asked"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    hub = StubHub()
    with serving(hub, tmp_path / "cache", monkeypatch):
        yield hub
