"""The page is open to this machine only, unless there is a password."""

import io
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tokenflow.apps.web.access import VARIABLE, check_against, find_password
from tokenflow.apps.web.serving import serve
from tokenflow.errors import ConfigError, EngineError


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_needs_no_password(address: str) -> None:
    assert find_password(address, None, {}) is None


def test_another_address_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(ConfigError, match="needs a password; set TOKENFLOW_UI_PASSWORD"):
        find_password("0.0.0.0", None, {})


def test_a_share_link_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(ConfigError, match=r"with a share link .* needs a password; set TOKENFLOW_UI_PASSWORD"):
        find_password("127.0.0.1", None, {}, share=True)
    assert find_password("127.0.0.1", None, {VARIABLE: "open sesame"}, share=True) == "open sesame"
    with pytest.raises(ConfigError, match="share link"):
        serve(share=True)


def test_a_page_with_a_share_link_is_a_shared_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tunnels, links, apps = [], [], []

    def tunnel(host: str, port: int, token: str, *others: None) -> str:
        tunnels.append((host, port, len(token) > 30, others))
        return "https://example.org"

    monkeypatch.setattr("gradio.networking.setup_tunnel", tunnel)
    monkeypatch.setattr("uvicorn.run", lambda app, **options: apps.append(app))
    serve(port=7000, password="open sesame", share=True, on_start=links.append)
    assert (tunnels, links) == ([("127.0.0.1", 7000, True, (None, None))], ["https://example.org"])
    with TestClient(apps[0], base_url="https://example.org") as client:
        assert "What it should show" not in client.get("/").text
        client.post("/login", data={"username": "me", "password": "open sesame"})
        page = client.get("/").text
    assert "What it should show" in page
    assert "metrics.classifier" not in page


def test_without_gradios_servers_there_is_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> str:
        raise RuntimeError("no route")

    monkeypatch.setattr("gradio.networking.setup_tunnel", fail)
    with pytest.raises(EngineError, match=r"cannot get a share link \(no route\); .* leave out --share"):
        serve(password="open sesame", share=True)


def test_a_password_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from the file\nand more\n")
    assert find_password("0.0.0.0", None, {VARIABLE: "from the environment"}) == "from the environment"
    assert find_password("0.0.0.0", file, {VARIABLE: "from the environment"}) == "from the file"


@pytest.mark.parametrize("content", ["", "short", "\nsecond line"])
def test_a_password_that_is_too_short_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(content)
    with pytest.raises(ConfigError, match="8 characters or more"):
        find_password("0.0.0.0", file, {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the password in .*missing"):
        find_password("0.0.0.0", tmp_path / "missing", {})


def test_only_the_password_lets_in() -> None:
    check = check_against("sesame öffne")
    assert check("anyone", "sesame öffne")
    assert not check("anyone", "sesame")
    assert not check("sesame öffne", "")
