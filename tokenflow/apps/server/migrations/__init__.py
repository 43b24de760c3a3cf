"""Brings the tables of a database to what `tables.py` describes, with Alembic: a file in `versions/` per change.

For another change, add a file there whose `down_revision` is the last one's name.
"""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, inspect

from tokenflow.errors import ConfigError

FIRST, SECOND = "first", "second"
"""Revisions from before Alembic kept a record of them."""

logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)  # else it speaks at every start


def upgrade(connection: Connection) -> None:
    """Make the tables, or add to them what they lack; within the transaction of the connection.

    Raises:
        ConfigError: they are those of a later tokenflow.
    """
    config = configuration(connection)
    tables = inspect(connection).get_table_names()
    if "videos" in tables and "alembic_version" not in tables:
        command.stamp(config, SECOND if "schema_version" in tables else FIRST)
    try:
        command.upgrade(config, "head")
    except CommandError as error:  # an unknown revision
        raise ConfigError(
            f"the database was made by a later tokenflow ({error}); serve with that one, or start with another --data "
            "or --database"
        ) from error


def configuration(connection: Connection) -> Config:
    """What the commands of Alembic are called with."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
