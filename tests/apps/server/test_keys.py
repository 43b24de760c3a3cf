"""Keys: made and listed on the command line, stored as digests only, recognised until they are revoked."""

from pathlib import Path

import psycopg
import pytest
from fastapi.testclient import TestClient

from tests.apps.conftest import status
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.keys import create_key, has_keys, recognise, revoke_key
from tokenflow.errors import ConfigError

pytestmark = pytest.mark.serve


def test_a_key_is_recognised_until_it_is_revoked(database: Database) -> None:
    key = create_key(database, "bob", 5, "10/min")
    assert has_keys(database)
    wrong = [key[:-1] + ("0" if key[-1] != "0" else "1"), "", "tf", key.replace("tf_", "tg_"), f"{key} ", "tf_é_x"]
    with database.read() as session:
        found = recognise(session, key)
        assert found is not None
        assert (found.name, found.credits, found.rate) == ("bob", 5, "10/min")
        assert [recognise(session, each) for each in wrong] == [None] * len(wrong)
    revoke_key(database, "bob")
    assert not has_keys(database)
    with database.read() as session:
        assert recognise(session, key) is None


def test_only_a_digest_is_stored(database: Database, url: str, tmp_path: Path) -> None:
    key = create_key(database, "bob", 5, None)
    secret = key.split("_")[2]
    if url.startswith("sqlite"):
        stored = b"".join(path.read_bytes() for path in tmp_path.glob("state.sqlite*"))
    else:
        with psycopg.connect(url) as connection:
            stored = str(connection.execute("SELECT * FROM keys").fetchall()).encode()
    assert b"bob" in stored
    assert secret.encode() not in stored


@pytest.mark.parametrize(
    ("name", "credits", "rate", "message"),
    [
        ("bob", 1, None, "there is a key named 'bob' already"),
        (" ", 1, None, "expected a name"),
        ("eve", 2**31, None, "expected 0 to"),
        ("eve", 1, "10", r"expected a rate such as 10/min \(units: s, .*\), got '10'"),
        ("eve", 1, "0/min", "expected a rate"),
        ("eve", 1, "5/fortnight", "expected a rate"),
    ],
)
def test_mistakes_are_named(database: Database, name: str, credits: int, rate: str | None, message: str) -> None:
    create_key(database, "bob", 1, None)
    with pytest.raises(ConfigError, match=message):
        create_key(database, name, credits, rate)
    with pytest.raises(ConfigError, match="no key named 'eve'"):
        revoke_key(database, "eve")


def test_the_command_prints_the_key_alone_on_the_last_line(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--data", str(tmp_path / "service"), "--database", url)
    assert status("keys", "create", "bob", "--credits", "7", "--rate", "10/min", *where) == 0
    key = capsys.readouterr().out.splitlines()[-1]
    database = Database(url)
    with database.read() as session:
        assert recognise(session, key) is not None
    assert status("keys", "list", *where) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["bob", "7", "7", "10/min"]
    assert status("keys", "revoke", "bob", *where) == 0
    assert status("keys", "list", *where) == 0
    assert "revoked" in capsys.readouterr().out
    assert status("keys", "create", "bob", *where) == 2
    database.close()


def test_requests_without_a_right_key_are_refused(client: TestClient, database: Database, key: str) -> None:
    for header in ({"authorization": "Bearer tf_1_2"}, {"authorization": "Basic abc"}, {"authorization": ""}):
        answer = client.get("/v1/videos", headers=header)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["type"] == "authentication"
    assert client.get("/v1/videos").status_code == 200
    revoke_key(database, "ann")
    assert client.get("/v1/videos").status_code == 401
    assert client.get("/healthz").status_code == 200
