"""Tables of older versions: they are changed to those of this one, and no row is lost."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, TableClause, column, inspect, select, table, text

from tokenflow.apps.server import database as opening
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.migrations import FIRST, SECOND, configuration
from tokenflow.apps.server.tables import Base
from tokenflow.errors import ConfigError

pytestmark = pytest.mark.serve

OLD_KEY = {"id": "k", "name": "ann", "digest": "d", "credits": 5, "granted": 9, "created_at": 1.0}
OLD_VIDEO = {
    "id": "v",
    "owner": "key:k",
    "key_id": "k",
    "family": "f",
    "state": "completed",
    "model": "standard",
    "prompt": "a tiger",
    "config": {"edit": {"steps": 3}},
    "frames": 4,
    "width": 24,
    "height": 16,
    "duration": 0.4,
    "price": 4,
    "progress": 100,
    "cancel_requested": False,
    "request_digest": "r",
    "created_at": 2.5,
    "finished_at": 3.0,
    "seconds": 0.5,
}
OLD_EVENT = {"video_id": "v", "kind": "state", "data": {"status": "completed"}}


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = opening._open(url).execution_options(writes=True)
    yield engine
    engine.dispose()


def make_old(connection: Connection, version: str) -> None:
    """The tables as that version made them, which was before Alembic kept a record."""
    command.upgrade(configuration(connection), version)
    connection.execute(text("DROP TABLE alembic_version"))
    if version == SECOND:
        connection.execute(text("CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)"))
        connection.execute(text("INSERT INTO schema_version VALUES (2)"))


def rows(connection: Connection, name: str) -> Sequence[dict[str, Any]]:
    return [dict(row) for row in connection.execute(select(as_it_is(connection, name))).mappings()]


def as_it_is(connection: Connection, name: str) -> TableClause:
    """A table with those of its columns that the database has."""
    there = {each["name"] for each in inspect(connection).get_columns(name)}
    return table(name, *[column(c.name, c.type) for c in Base.metadata.tables[name].columns if c.name in there])


@pytest.mark.parametrize("version", [FIRST, SECOND])
def test_older_tables_are_changed_and_no_row_is_lost(version: str, url: str, engine: Engine) -> None:
    later = {} if version == FIRST else {"attempts": 1, "keep_seconds": 60.0}
    with engine.begin() as connection:
        make_old(connection, version)
        for name, row in (("keys", OLD_KEY), ("videos", OLD_VIDEO | later), ("events", OLD_EVENT)):
            connection.execute(as_it_is(connection, name).insert().values(row))
        before = {name: rows(connection, name) for name in ("keys", "videos", "events")}
    Database(url).close()
    Database(url).close()
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []
        for name, old in before.items():
            (now,) = rows(connection, name)
            assert [now | each for each in old] == [now]
        (video,) = rows(connection, "videos")
        assert (video["attempts"], video["keep_seconds"]) == ((0, 24 * 3600) if version == FIRST else (1, 60))
        assert "schema_version" not in inspect(connection).get_table_names()


def test_new_tables_are_those_that_the_code_describes(database: Database, engine: Engine) -> None:
    with engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert rows(connection, "videos") == []


def test_tables_of_a_later_version_are_refused(database: Database, url: str, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'fourth'"))
    with pytest.raises(
        ConfigError, match=r"the database was made by a later tokenflow .*fourth.*; serve with that one"
    ):
        Database(url)


def test_a_failed_change_leaves_the_tables_as_they_were(url: str, engine: Engine) -> None:
    with engine.begin() as connection:
        make_old(connection, FIRST)
        connection.execute(text("CREATE TABLE submissions (id INTEGER)"))  # in the way of the second
        connection.execute(as_it_is(connection, "keys").insert().values(OLD_KEY))
    with pytest.raises(Exception, match="submissions"):
        Database(url)
    with engine.begin() as connection:
        assert "attempts" not in {column["name"] for column in inspect(connection).get_columns("videos")}
        connection.execute(text("DROP TABLE submissions"))
    Database(url).close()
    with engine.begin() as connection:
        assert [row["name"] for row in rows(connection, "keys")] == ["ann"]
