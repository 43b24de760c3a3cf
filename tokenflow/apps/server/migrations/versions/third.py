"""Finds the latest videos of a model; Alembic's table has the version from here on."""

from alembic import op

revision = "third"
down_revision = "second"


def upgrade() -> None:
    """Add an index, and drop the table that had the version."""
    op.create_index("videos_by_model", "videos", ["model", "state", "finished_at"])
    op.drop_table("schema_version", if_exists=True)
