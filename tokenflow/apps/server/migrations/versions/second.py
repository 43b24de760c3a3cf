"""How often a video was started, how long it is kept, and what counts against a rate."""

import sqlalchemy as sa
from alembic import op

revision = "second"
down_revision = "first"

KEEP_SECONDS = 24 * 3600
"""How long videos were kept, unless the operator said otherwise."""


def upgrade() -> None:
    """Add columns and a table."""
    op.add_column("videos", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
    op.add_column("videos", sa.Column("keep_seconds", sa.Double, nullable=False, server_default=str(KEEP_SECONDS)))
    op.create_table(
        "submissions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("owner", sa.String(80), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("submissions_by_owner", "submissions", ["owner", "at"])
