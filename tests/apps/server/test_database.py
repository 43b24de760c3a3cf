"""The database: what its errors keep to themselves, and which tables it takes."""

from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from tests.apps.conftest import status
from tests.apps.server.test_credits import new_video
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.tables import Schema
from tokenflow.errors import ConfigError

pytestmark = pytest.mark.serve


def test_errors_of_the_database_have_no_prompts(database: Database) -> None:
    with database.write() as session:
        session.add(new_video("v"))
    with pytest.raises(IntegrityError) as raised, database.write() as session:
        session.add(new_video("v"))
    assert "a tiger" not in str(raised.value)
    assert "UNIQUE" in str(raised.value).upper()


@pytest.mark.parametrize("url", ["postgresql//me:secret@host/name", "postgresql://me:secret@host:port/name"])
def test_a_mistyped_url_keeps_its_password(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("keys", "list", "--data", str(tmp_path), "--database", url) == 2
    error = capsys.readouterr().err
    assert "expected --database as a URL" in error
    assert "secret" not in error


def test_tables_of_another_version_are_refused(database: Database, url: str) -> None:
    Database(url).close()
    with database.write() as session:
        session.execute(update(Schema).values(version=1))
    with pytest.raises(ConfigError, match=r"tables of version 1 and this tokenflow needs \d+; start with another"):
        Database(url)
    with database.write() as session:
        Schema.__table__.drop(session.connection())  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="tables of version 0"):
        Database(url)
