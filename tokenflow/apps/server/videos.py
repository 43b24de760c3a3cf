"""The routes of videos."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, File, Form, Header, Path, Query, Request, Response, UploadFile
from fastapi.responses import FileResponse, JSONResponse
from sqlalchemy import select
from sqlalchemy.orm import Session
from sse_starlette import EventSourceResponse

from tokenflow.apps.server.callers import Caller
from tokenflow.apps.server.clip_response import clip_response
from tokenflow.apps.server.estimates import pace_of_unfinished, seconds_of_running, seconds_until_done
from tokenflow.apps.server.expiry import delete_all, forget_files
from tokenflow.apps.server.fairness import places
from tokenflow.apps.server.lifecycle import ask_to_cancel
from tokenflow.apps.server.problems import Problem, documented, not_found
from tokenflow.apps.server.schemas import (
    EVENT,
    NO_ZERO,
    VIDEO_ID,
    WEBHOOK,
    DeletedVideo,
    PageRequest,
    Quote,
    RemixRequest,
    VideoList,
    VideoObject,
    video_object,
)
from tokenflow.apps.server.service import CallerOf, Service, ServiceOf
from tokenflow.apps.server.settings import Mode, Preset
from tokenflow.apps.server.submission import Wish, find
from tokenflow.apps.server.tables import COMPLETED, QUEUED, UNFINISHED, Video
from tokenflow.config import Config

router = APIRouter(prefix="/v1/videos", tags=["videos"], responses=documented(400, 401, 422))

MAX_PROMPT = 2000

SETTINGS = (
    "JSON with settings of the sections edit and clip that name no files, such as "
    '{"edit": {"steps": 12, "references": [{"kind": "style", "weight": 0.5}]}}. edit.references has a section per '
    "image of references[], in their order, with kind (identity or style) and weight (0 to 100)"
)

FIELDS = {
    *("video", "input_reference", "prompt", "source_prompt", "model", "preset", "mode", "size", "seconds", "seed"),
    *("mask", "keyframes[]", "references[]", "settings", "webhook_url"),
}

VideoId = Annotated[str, Path(pattern=VIDEO_ID)]
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]
Text = Annotated[str, Form(max_length=MAX_PROMPT, pattern=NO_ZERO)]
Name = Annotated[str | None, Form(max_length=100, pattern=NO_ZERO)]


@router.post(
    "",
    status_code=202,
    response_model=VideoObject,
    responses={200: {"model": Quote, "description": "of a dry run"}, **documented(402, 409, 413, 415, 429)},
)
async def create_video(
    request: Request,
    service: ServiceOf,
    caller: CallerOf,
    prompt: Annotated[str, Form(min_length=1, max_length=MAX_PROMPT, pattern=NO_ZERO)],
    video: Annotated[UploadFile | None, File(description="the clip")] = None,
    input_reference: Annotated[UploadFile | None, File(description="the clip, as the openai client calls it")] = None,
    source_prompt: Text = "",
    model: Name = None,
    preset: Annotated[Preset | None, Form()] = None,
    mode: Annotated[Mode | None, Form()] = None,
    size: Annotated[str | None, Form(pattern=r"^\d{1,5}(x\d{1,5})?$")] = None,
    seconds: Annotated[float | None, Form(gt=0, le=10**6)] = None,
    seed: Annotated[int | None, Form(ge=0, le=2**63 - 1)] = None,
    mask: Annotated[UploadFile | None, File(description="white where the clip may change")] = None,
    keyframes: Annotated[Sequence[UploadFile] | None, File(alias="keyframes[]", description="edited frames")] = None,
    references: Annotated[
        Sequence[UploadFile] | None,
        File(
            alias="references[]",
            description="images whose look the edit takes; `edit.references` in `settings` has their kinds and weights",
        ),
    ] = None,
    settings: Annotated[str | None, Form(max_length=20_000, description=SETTINGS)] = None,
    webhook_url: Annotated[str | None, Form(max_length=2000, pattern=WEBHOOK)] = None,
    dry_run: Annotated[bool, Query(description="only say what it would take")] = False,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Have a clip edited."""
    await _refuse_other_fields(request)
    wish = Wish(
        video or input_reference,
        prompt,
        source_prompt,
        model,
        preset,
        mode,
        size,
        seconds,
        seed,
        mask,
        keyframes or (),
        references or (),
        settings,
        webhook_url,
    )
    submit = partial(service.submissions.submit, caller, wish, idempotency_key, dry_run)
    made = await to_thread.run_sync(submit, limiter=service.uploads)
    if isinstance(made, Quote):
        return JSONResponse(made.model_dump())
    return await to_thread.run_sync(_shown, service, made)


@router.get("", response_model=VideoList, responses=documented(404))
def list_videos(
    service: ServiceOf,
    caller: CallerOf,
    page: Annotated[PageRequest, Query()],
) -> VideoList:
    """The videos of a key."""
    _needs_key(caller)
    after, limit, order = page.after, page.limit, page.order
    column = Video.created_at.asc() if order == "asc" else Video.created_at.desc()
    tie = Video.id.asc() if order == "asc" else Video.id.desc()
    chosen = select(Video).where(Video.owner == caller.owner, Video.deleted_at.is_(None)).order_by(column, tie)
    with service.database.read() as session:
        if after is not None:
            last = find(session, caller, after)
            later = Video.created_at > last.created_at if order == "asc" else Video.created_at < last.created_at
            same = Video.created_at == last.created_at
            beyond = Video.id > last.id if order == "asc" else Video.id < last.id
            chosen = chosen.where(later | (same & beyond))
        rows = session.scalars(chosen.limit(limit + 1)).all()
        data = _objects(session, rows[:limit])
    ids = [each.id for each in data]
    return VideoList(
        data=data, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=len(rows) > limit
    )


@router.get("/{video_id}", response_model=VideoObject, responses=documented(404))
def get_video(service: ServiceOf, caller: CallerOf, video_id: VideoId) -> VideoObject:
    """How far a video is."""
    with service.database.read() as session:
        return _objects(session, [find(session, caller, video_id)])[0]


@router.get(
    "/{video_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": EVENT}}},
        204: {"description": "the video has ended, and nothing came after Last-Event-ID"},
        **documented(404),
    },
)
def stream_events(
    service: ServiceOf,
    caller: CallerOf,
    video_id: VideoId,
    last_event_id: Annotated[int, Header(ge=0, le=2**53, description="of the last event that was received")] = 0,
) -> Response:
    """What happens to a video, as server-sent events: `state`, `progress`, `preview`, `notice`. Ends with the video."""
    with service.database.read() as session:
        find(session, caller, video_id)
    if service.feed.is_over(video_id, last_event_id):
        return Response(status_code=204)  # which tells browsers not to connect again
    return EventSourceResponse(service.feed.stream(video_id, last_event_id))


@router.head("/{video_id}/content", include_in_schema=False)
@router.get(
    "/{video_id}/content",
    response_class=FileResponse,
    responses={
        200: {"content": {"video/*": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "a range", "content": {"video/*": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "unchanged"},
        **documented(404, 409, 416),
    },
)
def get_content(
    service: ServiceOf,
    caller: CallerOf,
    video_id: VideoId,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The edited clip, whole or in ranges."""
    report, _ = _result_file(service, caller, video_id, "report.json")
    path = next(iter(sorted(report.parent.glob("edited.*"))), None)
    if path is None:
        raise not_found(video_id)
    return clip_response(path, f"{video_id}{path.suffix}", if_none_match)


@router.get(
    "/{video_id}/report",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {"schema": {"type": "object"}}, "text/html": {}}},
        **documented(404, 409),
    },
)
def get_report(
    service: ServiceOf,
    caller: CallerOf,
    video_id: VideoId,
    format: Literal["json", "html"] = "json",
) -> Response:
    """What was measured on an edit: figures, verdict, settings; as JSON, or as a page."""
    path, video = _result_file(service, caller, video_id, f"report.{format}")
    text = service.folders.hide(path.read_text(encoding="utf-8"), Config.model_validate(video.config))
    return Response(text, media_type="text/html" if format == "html" else "application/json")


@router.post(
    "/{video_id}/remix", status_code=202, response_model=VideoObject, responses=documented(402, 404, 409, 413, 429)
)
def remix_video(
    service: ServiceOf, caller: CallerOf, video_id: VideoId, body: RemixRequest, idempotency_key: IdempotencyKey = None
) -> VideoObject:
    """Edit the clip of a video once more, with another prompt. The inversion of the clip is used again."""
    return _shown(service, service.submissions.remix(caller, video_id, body, idempotency_key))


@router.post("/{video_id}/cancel", response_model=VideoObject, responses=documented(404))
def cancel_video(service: ServiceOf, caller: CallerOf, video_id: VideoId) -> VideoObject:
    """Stop a video. One that runs is `cancelled` once its worker has stopped; one that has ended stays as it is."""
    with service.database.write() as session:
        video = find(session, caller, video_id)
        ask_to_cancel(session, video)
        return _objects(session, [video])[0]


@router.delete("/{video_id}", response_model=DeletedVideo, responses=documented(404, 409))
def delete_video(service: ServiceOf, caller: CallerOf, video_id: VideoId) -> DeletedVideo:
    """Delete a video that has ended, and its files."""
    with service.database.write() as session:
        video = find(session, caller, video_id)
        if video.state in UNFINISHED:
            raise Problem(409, f"the video is {video.state}; cancel it first", "video_id")
        unused = forget_files(session, service.folders, video, forget=True)
    delete_all(service.folders, unused)
    return DeletedVideo(id=video_id)


async def _refuse_other_fields(request: Request) -> None:
    """Refuse a form with other fields, and an address with another query: what is misspelt would cost credits."""
    asked = sorted(set(request.query_params) - {"dry_run"})
    if asked:
        raise Problem(422, f"{asked[0][:60]}: unknown query parameter; only dry_run is accepted", asked[0][:60])
    other = sorted(set((await request.form()).keys()) - FIELDS)
    if other:
        raise Problem(422, f"{other[0][:60]}: expected only the fields {', '.join(sorted(FIELDS))}", other[0][:60])


def _needs_key(caller: Caller) -> None:
    if caller.key_id is None:
        raise Problem(
            401, "listing videos needs a key: others may share your address", headers={"WWW-Authenticate": "Bearer"}
        )


def _shown(service: Service, video: Video) -> VideoObject:
    with service.database.read() as session:
        return _objects(session, [session.get_one(Video, video.id)])[0]


def _objects(session: Session, videos: Sequence[Video]) -> list[VideoObject]:
    waiting = [video.id for video in videos if video.state == QUEUED]
    if not waiting:
        return [video_object(video) for video in videos]
    pace = pace_of_unfinished(session)
    running = seconds_of_running(session, pace)
    found = places(session, waiting, pace)
    left = {video_id: seconds_until_done(place, running) for video_id, place in found.items()}
    return [video_object(video, found.get(video.id), left.get(video.id)) for video in videos]


def _result_file(service: Service, caller: Caller, video_id: str, name: str) -> tuple[FilePath, Video]:
    """A file of a result that is complete, and its video."""
    with service.database.read() as session:
        video = find(session, caller, video_id)
    if video.state != COMPLETED:
        raise Problem(409, f"the video is {video.state}; only completed ones have a result", "video_id")
    path = service.folders.result(video.id) / name
    if not path.is_file():
        raise Problem(404, "the result has expired and was deleted", "video_id")
    return path, video
