"""The commands of the service where its extra is missing."""

import importlib.util
from typing import Any

import pytest

from tests.apps.conftest import status


@pytest.mark.parametrize(
    "command", [("serve",), ("keys", "create", "ann"), ("keys", "list"), ("keys", "revoke", "ann")]
)
def test_without_the_extra_the_error_says_what_to_install(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        return None if name == "sqlalchemy" else usual(name, *rest)

    monkeypatch.setattr("tokenflow.apps.server.availability.find_spec", find)
    assert status(*command) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the service needs sqlalchemy; install")
    assert 'pip install "tokenflow[serve]"' in said
