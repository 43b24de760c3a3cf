"""The database: what its errors keep to themselves."""

from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from tests.apps.conftest import status
from tests.apps.server.test_credits import new_video
from tokenflow.apps.server.database import Database

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
