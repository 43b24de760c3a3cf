"""Keys, videos, credits, events and deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "first"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(100), nullable=False, unique=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("credits", sa.Integer, nullable=False),
        sa.Column("granted", sa.Integer, nullable=False),
        sa.Column("rate", sa.String(32)),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
    )
    op.create_table(
        "videos",
        sa.Column("id", sa.String(48), primary_key=True),
        sa.Column("owner", sa.String(80), nullable=False),
        sa.Column("key_id", sa.String(16), sa.ForeignKey("keys.id")),
        sa.Column("family", sa.String(48), nullable=False),
        sa.Column("remix_of", sa.String(48)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("frames", sa.Integer, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("duration", sa.Double, nullable=False),
        sa.Column("price", sa.Integer, nullable=False),
        sa.Column("progress", sa.Integer, nullable=False),
        sa.Column("stage", sa.String(32)),
        sa.Column("seconds_left", sa.Double),
        sa.Column("error_type", sa.String(32)),
        sa.Column("error_message", sa.Text),
        sa.Column("pool", sa.String(32)),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("webhook_url", sa.Text),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("request_digest", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("expires_at", sa.Double),
        sa.Column("deleted_at", sa.Double),
        sa.Column("seconds", sa.Double),
        sa.Column("memory_mb", sa.Integer),
        sa.UniqueConstraint("owner", "idempotency_key"),
    )
    op.create_index("videos_by_state", "videos", ["state", "owner", "created_at"])
    op.create_index("videos_by_owner", "videos", ["owner", "created_at"])
    op.create_index("videos_by_family", "videos", ["family"])
    op.create_table(
        "entries",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key_id", sa.String(16), sa.ForeignKey("keys.id"), nullable=False, index=True),
        sa.Column("video_id", sa.String(48)),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("credits", sa.Integer, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.UniqueConstraint("video_id", "kind"),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("video_id", sa.String(48), nullable=False, index=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(48), primary_key=True),
        sa.Column("video_id", sa.String(48), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Double, index=True),
        sa.Column("outcome", sa.String(200)),
    )
