"""What the interface answers, as OpenAPI shows it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tokenflow.apps.server.fairness import Place
from tokenflow.apps.server.tables import COMPLETED, QUEUED, Video

NO_ZERO = r"^[^\x00]*$"
"""PostgreSQL holds no zero byte."""

VIDEO_ID = r"^[a-zA-Z0-9_-]{1,60}$"

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_PORT = r"([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])"

WEBHOOK = rf"^https?://{_LABEL}(\.{_LABEL}){{0,9}}(:{_PORT})?([/?][\x21-\x7e]*)?$"
"""A host by name or IPv4 address, perhaps a port, a path and a query; no user."""

EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "for Last-Event-ID"},
        "event": {"enum": ["state", "progress", "preview", "notice"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["id", "event", "data"],
}
"""One event of a stream."""

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]


class VideoError(BaseModel):
    """Why a video failed.

    Attributes:
        code: `invalid_input`, what was asked for cannot be made; `worker_died`, such as for lack of memory;
            `internal_error`, a fault of the service.
        message: one line.
    """

    code: str
    message: str


class VideoObject(BaseModel):
    """An edit, from its acceptance to its end."""

    id: str
    object: Literal["video"] = "video"
    status: Status
    progress: int = Field(ge=0, le=100, description="in percent")
    stage: str | None = Field(description="what is being done")
    queue_position: int | None = Field(description="from 1, while it is queued")
    seconds_left: float | None = Field(description="until it is completed, roughly; null where unknown")
    model: str
    prompt: str
    size: str = Field(description="width x height at which the model works")
    seconds: str = Field(description="length of the edited part of the clip")
    frames: int
    price: int = Field(description="in credits")
    created_at: int = Field(description="seconds since 1970, UTC; so are the other times")
    started_at: int | None
    completed_at: int | None = Field(description="when it ended, however it did")
    expires_at: int | None = Field(description="when the result is deleted; null once it is")
    remixed_from_video_id: str | None
    error: VideoError | None


class VideoList(BaseModel):
    """A page of videos, newest first unless asked otherwise."""

    object: Literal["list"] = "list"
    data: list[VideoObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedVideo(BaseModel):
    """A video that was deleted."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class Quote(BaseModel):
    """What an edit would take; nothing was accepted."""

    object: Literal["video.quote"] = "video.quote"
    model: str
    price: int = Field(description="in credits")
    frames: int
    size: str
    seconds_to_make: float | None = Field(description="going by the latest videos of this model; null without any")
    memory_mb: int | None = Field(description="of a worker, likewise")


class ModelLimits(BaseModel):
    """What a request may ask for at most."""

    megabytes: float
    seconds: float
    pixels: int
    frames: int
    steps: int
    working_pixels: int


class ModelObject(BaseModel):
    """A variant."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    object: Literal["model"] = "model"
    description: str
    preset: str
    modes: list[str]
    steps: int
    size: int = Field(description="shorter side in pixels that the model was trained at, and works at by default")
    credits: float = Field(description="per edited frame and megapixel at the working size")
    limits: ModelLimits


class ModelList(BaseModel):
    """All variants."""

    object: Literal["list"] = "list"
    data: list[ModelObject]


class Usage(BaseModel):
    """The credits of a key: granted = credits + held + spent."""

    object: Literal["usage"] = "usage"
    name: str
    granted: int
    credits: int = Field(description="that may be spent")
    held: int = Field(description="by videos that are not finished")
    spent: int
    rate: str | None
    videos: dict[str, int] = Field(description="by status")


class Health(BaseModel):
    """That the server answers."""

    status: Literal["ok"] = "ok"


class PageRequest(BaseModel):
    """Which videos to list."""

    model_config = ConfigDict(extra="forbid")

    after: str | None = Field(None, pattern=VIDEO_ID, description="the last id of the page before")
    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"


class RemixRequest(BaseModel):
    """Another edit of the same clip."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=2000, pattern=NO_ZERO)
    seed: int | None = Field(None, ge=0, le=2**63 - 1)
    webhook_url: str | None = Field(None, max_length=2000, pattern=WEBHOOK)


def video_object(video: Video, place: Place | None = None, seconds_left: float | None = None) -> VideoObject:
    """A video as clients see it; of one that waits, with its place and the seconds that are left."""
    failed = VideoError(code=video.error_type, message=video.error_message or "") if video.error_type else None
    return VideoObject.model_validate(
        {
            "id": video.id,
            "status": video.state,
            "progress": video.progress,
            "stage": None if video.state in (QUEUED, COMPLETED) else video.stage,
            "queue_position": None if place is None else place.number,
            "seconds_left": video.seconds_left if place is None else seconds_left,
            "model": video.model,
            "prompt": video.prompt,
            "size": f"{video.width}x{video.height}",
            "seconds": f"{video.duration:.3f}".rstrip("0").rstrip("."),
            "frames": video.frames,
            "price": video.price,
            "created_at": int(video.created_at),
            "started_at": _whole(video.started_at),
            "completed_at": _whole(video.finished_at),
            "expires_at": _whole(video.expires_at),
            "remixed_from_video_id": video.remix_of,
            "error": failed,
        }
    )


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
