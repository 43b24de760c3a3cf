"""The tables of the database: keys, videos, credits, events and deliveries of webhooks.

Each change of them needs a file in `migrations/versions/`.
"""

from typing import Any

from sqlalchemy import JSON, Double, ForeignKey, Index, Integer, String, Text, UniqueConstraint, cast
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

QUEUED, IN_PROGRESS, COMPLETED, FAILED, CANCELLED = "queued", "in_progress", "completed", "failed", "cancelled"
UNFINISHED = (QUEUED, IN_PROGRESS)


class Base(DeclarativeBase):
    """The tables. Times are seconds since 1970, UTC."""

    type_annotation_map = {float: Double}  # noqa: RUF012 - how SQLAlchemy is told


class Key(Base):
    """A client. The key itself is not stored.

    Attributes:
        id: the middle part of the key.
        name: given by the operator.
        digest: SHA-256 of the key.
        credits: that are left, those held by unfinished videos taken off.
        granted: credits it was created with.
        rate: of submissions, such as `10/min`; None for no limit.
    """

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    credits: Mapped[int]
    granted: Mapped[int]
    rate: Mapped[str | None] = mapped_column(String(32))
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]


class Video(Base):
    """An edit: what was asked for, how far it is, and how it ended.

    Attributes:
        owner: whose turn it is when it is started: a key or an address.
        family: the video that brought the clip; all remixes of one clip share its files and inversion.
        config: the whole configuration, so that it stays the same edit whatever becomes of the variant.
        price: in credits; held from acceptance on.
        pool: the process whose worker runs it.
        attempts: how often it was started since it last got further.
        keep_seconds: how long its files are kept after its end.
        expires_at: when its files are deleted; None before it has ended, and once they are.
        seconds, memory_mb: what it took.
    """

    __tablename__ = "videos"
    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key"),
        Index("videos_by_state", "state", "owner", "created_at"),
        Index("videos_by_owner", "owner", "created_at"),
        Index("videos_by_family", "family"),
        Index("videos_by_model", "model", "state", "finished_at"),
    )

    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    key_id: Mapped[str | None] = mapped_column(ForeignKey("keys.id"))
    family: Mapped[str] = mapped_column(String(48))
    remix_of: Mapped[str | None] = mapped_column(String(48))
    state: Mapped[str] = mapped_column(String(16))
    model: Mapped[str] = mapped_column(String(64))
    prompt: Mapped[str] = mapped_column(Text)
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    frames: Mapped[int]
    width: Mapped[int]
    height: Mapped[int]
    duration: Mapped[float]
    price: Mapped[int]
    progress: Mapped[int] = mapped_column(Integer, default=0)
    stage: Mapped[str | None] = mapped_column(String(32))
    seconds_left: Mapped[float | None]
    error_type: Mapped[str | None] = mapped_column(String(32))
    error_message: Mapped[str | None] = mapped_column(Text)
    pool: Mapped[str | None] = mapped_column(String(32))
    attempts: Mapped[int] = mapped_column(default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    webhook_url: Mapped[str | None] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_digest: Mapped[str] = mapped_column(String(64))
    keep_seconds: Mapped[float]
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    expires_at: Mapped[float | None]
    deleted_at: Mapped[float | None]
    seconds: Mapped[float | None]
    memory_mb: Mapped[int | None]


WORK = cast(Video.frames, Double) * Video.width * Video.height
"""What the time of a video is taken to grow with: frames and pixels."""


class Submission(Base):
    """A request that was counted against a rate, accepted or not."""

    __tablename__ = "submissions"
    __table_args__ = (Index("submissions_by_owner", "owner", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    at: Mapped[float]


class Entry(Base):
    """A change of a key's credits. A video has at most one of each kind, whatever happens to the processes."""

    __tablename__ = "entries"
    __table_args__ = (UniqueConstraint("video_id", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("keys.id"), index=True)
    video_id: Mapped[str | None] = mapped_column(String(48))
    kind: Mapped[str] = mapped_column(String(16))
    credits: Mapped[int]
    at: Mapped[float]


class Event(Base):
    """What happened to a video, in order; the id is that of the event stream."""

    __tablename__ = "events"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - else the ids of deleted events come again

    id: Mapped[int] = mapped_column(primary_key=True)
    video_id: Mapped[str] = mapped_column(String(48), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


class Delivery(Base):
    """A webhook that waits to be sent, or was.

    Attributes:
        id: stays the same in all attempts, so that the receiver can tell repetitions.
        next_at: when to try; None once it was delivered or given up.
    """

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    video_id: Mapped[str] = mapped_column(String(48))
    key_id: Mapped[str] = mapped_column(String(16))
    url: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[float | None] = mapped_column(index=True)
    outcome: Mapped[str | None] = mapped_column(String(200))
