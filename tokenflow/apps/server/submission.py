"""Accepting videos: uploads become files, wishes a configuration, and both a row in the queue."""

import hashlib
import json
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastapi import UploadFile
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tokenflow.apps.server import uploads
from tokenflow.apps.server.callers import Caller
from tokenflow.apps.server.credits import price
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.decoding import Inspector
from tokenflow.apps.server.edits import Asked, configuration, read_client_settings, reprompted
from tokenflow.apps.server.estimates import seconds_per_work
from tokenflow.apps.server.expiry import is_clip_kept
from tokenflow.apps.server.findings import Inspected
from tokenflow.apps.server.folders import Folders, new_id
from tokenflow.apps.server.lifecycle import accept, unfinished
from tokenflow.apps.server.outbound import host_and_port
from tokenflow.apps.server.problems import Problem, not_found, retry_later
from tokenflow.apps.server.schemas import Quote, RemixRequest
from tokenflow.apps.server.settings import ServerSettings, Variant
from tokenflow.apps.server.tables import COMPLETED, QUEUED, Key, Video
from tokenflow.config import Config

RETRY_FULL_QUEUE = 30.0
"""Seconds after which a client with too many unfinished videos may look again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """The fields of `POST /v1/videos`, as they came."""

    video: UploadFile | None
    prompt: str
    source_prompt: str
    model: str | None
    preset: str | None
    mode: str | None
    size: str | None
    seconds: float | None
    seed: int | None
    mask: UploadFile | None
    keyframes: Sequence[UploadFile]
    references: Sequence[UploadFile]
    settings: str | None
    webhook_url: str | None


class Submissions:
    """Accepts videos.

    Args:
        settings: of the server.
        database: where they are queued.
        folders: where their files go.
        inspector: looks at uploads.
    """

    def __init__(self, settings: ServerSettings, database: Database, folders: Folders, inspector: Inspector) -> None:
        self._settings, self._database, self._folders, self._inspector = settings, database, folders, inspector

    def submit(self, caller: Caller, wish: Wish, idempotency_key: str | None, dry_run: bool) -> Video | Quote:
        """Accept a video; or with `dry_run` say what it would take. A repeated request gives the video of the first.

        Raises:
            Problem: it is not accepted.
        """
        name, variant = self._variant(caller, wish.model)
        self._check_webhook(caller, wish.webhook_url)
        settings = read_client_settings(wish.settings)
        if not dry_run:
            self._check_room(caller, variant, idempotency_key)
        size = _read_size(wish.size)
        family = new_id("clip")
        folder = self._folders.incoming / family
        folder.mkdir(mode=0o700)
        try:
            asked, digests = self._store(wish, settings, size, folder, variant)
            digest = _digest(asked, name, wish, digests)
            if idempotency_key is not None and not dry_run:
                earlier = self._earlier(caller, idempotency_key, digest)
                if earlier is not None:
                    return earlier
            video_id = new_id("video")
            home = self._folders.family(family)
            config = configuration(asked, variant, home / "inversions", self._folders.result(video_id))
            inspected = self._inspector.inspect(config, variant.limits, wish.seconds)
            if wish.seconds is not None:
                config = _first_frames(config, inspected.frames)
            cost = price(variant.credits, inspected.frames, inspected.width, inspected.height)
            if dry_run:
                return self._quote(name, inspected, cost)
            folder.rename(home)
            try:
                row = _row(video_id, caller, family, None, name, _moved(config, folder, home), inspected, cost, digest)
                row.webhook_url, row.idempotency_key = wish.webhook_url, idempotency_key
                accepted = self._accept(caller, row)
            except (Problem, IntegrityError):  # after any other, the row may be there all the same
                self._folders.delete(home)
                raise
            if accepted is not row:
                self._folders.delete(home)
            return accepted
        except IntegrityError:  # the same request at the same time
            earlier = self._earlier(caller, idempotency_key or "", digest)
            if earlier is None:
                raise
            return earlier
        finally:
            self._folders.delete(folder)

    def queue(self, caller: Caller, video_id: str, family: str, model: str, config: Config) -> None:
        """Accept a video whose configuration and files are there.

        Raises:
            Problem: it is not accepted.
        """
        variant = self._settings.variants[model]
        inspected = self._inspector.inspect(config, variant.limits)
        cost = price(variant.credits, inspected.frames, inspected.width, inspected.height)
        self._accept(caller, _row(video_id, caller, family, None, model, config, inspected, cost, digest=""))

    def remix(self, caller: Caller, video_id: str, wish: RemixRequest, idempotency_key: str | None) -> Video:
        """Accept another edit of the same clip, on the same inversion.

        Raises:
            Problem: it is not accepted.
        """
        self._check_webhook(caller, wish.webhook_url)
        with self._database.read() as session:
            source = find(session, caller, video_id)
        digest = hashlib.sha256(f"{video_id} {wish.model_dump_json()}".encode()).hexdigest()
        if idempotency_key is not None:
            earlier = self._earlier(caller, idempotency_key, digest)
            if earlier is not None:
                return earlier
        name, variant = self._variant(caller, source.model)
        new = new_id("video")
        config = Config.model_validate(source.config)
        config = reprompted(config, wish.prompt, wish.seed, self._folders.result(new))
        inspected = Inspected(source.frames, source.width, source.height, source.duration)
        cost = price(variant.credits, source.frames, source.width, source.height)
        row = _row(new, caller, source.family, source.id, name, config, inspected, cost, digest)
        row.webhook_url, row.idempotency_key = wish.webhook_url, idempotency_key
        try:
            return self._accept(caller, row)
        except IntegrityError:
            earlier = self._earlier(caller, idempotency_key or "", digest)
            if earlier is None:
                raise
            return earlier

    def _variant(self, caller: Caller, name: str | None) -> tuple[str, Variant]:
        name = caller.models[0] if name is None else name
        if name not in self._settings.variants or name not in caller.models:
            raise Problem(422, f"model: expected one of {', '.join(caller.models)}, got {name[:60]!r}", "model")
        return name, self._settings.variants[name]

    def _check_webhook(self, caller: Caller, url: str | None) -> None:
        if url is None:
            return
        if caller.key_id is None:
            raise Problem(422, "webhook_url: needs a key, whose secret signs it", "webhook_url")
        try:
            host_and_port(url)
        except ValueError as error:
            message = f"webhook_url: expected an address such as https://example.org/done ({error})"
            raise Problem(422, message, "webhook_url") from error

    def _store(
        self,
        wish: Wish,
        settings: dict[str, dict[str, object]],
        size: tuple[int, int] | int | None,
        folder: Path,
        variant: Variant,
    ) -> tuple[Asked, list[str]]:
        """The uploads as files, and their digests."""
        if wish.video is None:
            raise Problem(422, "video: expected the clip as a file in the field video or input_reference", "video")
        most = variant.limits.megabytes
        clip = folder / f"clip{uploads.suffix_of(wish.video, 'video', uploads.OF_CLIPS)}"
        digests = [uploads.store(wish.video, clip, "video", most)]
        mask = None
        if wish.mask is not None:
            mask = folder / f"mask{uploads.suffix_of(wish.mask, 'mask', uploads.OF_CLIPS)}"
            digests.append(uploads.store(wish.mask, mask, "mask", most))
        keyframes = {}
        for upload in wish.keyframes:
            number = uploads.frame_number(upload)
            path = folder / f"frame_{number}{uploads.suffix_of(upload, 'keyframes[]', uploads.OF_IMAGES)}"
            digests.append(uploads.store(upload, path, "keyframes[]", most))
            keyframes[number] = path
        references = []
        for number, upload in enumerate(wish.references):
            path = folder / f"reference_{number}{uploads.suffix_of(upload, 'references[]', uploads.OF_IMAGES)}"
            digests.append(uploads.store(upload, path, "references[]", most))
            references.append(path)
        asked = Asked(
            wish.prompt,
            wish.source_prompt,
            wish.preset,
            wish.mode,
            size,
            wish.seed,
            wish.seconds,
            settings,
            clip,
            mask,
            keyframes,
            tuple(references),
        )
        return asked, digests

    def _earlier(self, caller: Caller, idempotency_key: str, digest: str) -> Video | None:
        """The video of an earlier request with the same Idempotency-Key.

        Raises:
            Problem: that asked for something else.
        """
        with self._database.read() as session:
            return _earlier(session, caller, idempotency_key, digest)

    def _check_room(self, caller: Caller, variant: Variant, idempotency_key: str | None) -> None:
        """Refuse what will be refused anyway before its files are stored and looked at.

        Raises:
            Problem: the client has too many unfinished videos, or no credits.
        """
        with self._database.read() as session:
            repeated = Video.owner == caller.owner, Video.idempotency_key == idempotency_key
            if idempotency_key is not None and session.scalar(select(Video.id).where(*repeated)):
                return
            _check_unfinished(session, caller)
            if caller.key_id and variant.credits > 0 and session.get_one(Key, caller.key_id).credits < 1:
                raise Problem(402, "no credits are left; see /v1/usage")

    def _accept(self, caller: Caller, row: Video) -> Video:
        with self._database.write() as session:
            if caller.key_id is not None:  # one submission of a key at a time, where transactions run side by side
                session.execute(select(Key.id).where(Key.id == caller.key_id).with_for_update())
            if row.idempotency_key is not None:
                earlier = _earlier(session, caller, row.idempotency_key, row.request_digest)
                if earlier is not None:
                    return earlier
            if row.remix_of is not None and not is_clip_kept(session, row.family):
                raise Problem(409, "the clip of this video has expired; send it again", "video_id")
            _check_unfinished(session, caller)
            row.keep_seconds = self._settings.keep_hours * 3600
            if not accept(session, row):
                raise Problem(402, f"this edit takes {row.price} credits, more than are left; see /v1/usage")
        said = f": {row.prompt!r}" if self._settings.log_prompts else ""
        log.info("accepted %s of %s, %d credits%s", row.id, caller.name, row.price, said)
        return row

    def _quote(self, name: str, inspected: Inspected, cost: int) -> Quote:
        """What an edit would take, by what those of this model took."""
        done = Video.model == name, Video.state == COMPLETED
        with self._database.read() as session:
            pace = seconds_per_work(session, [name]).get(name)
            memory = session.scalar(select(func.max(Video.memory_mb)).where(*done))
        work = inspected.frames * inspected.width * inspected.height
        return Quote(
            model=name,
            price=cost,
            frames=inspected.frames,
            size=f"{inspected.width}x{inspected.height}",
            seconds_to_make=None if pace is None else round(pace * work, 1),
            memory_mb=memory,
        )


def find(session: Session, caller: Caller, video_id: str) -> Video:
    """A video of a client.

    Raises:
        Problem: there is none of that id, or it is another client's.
    """
    video = session.get(Video, video_id) if video_id.isascii() and "\0" not in video_id else None
    if video is None or video.owner != caller.owner or video.deleted_at is not None:
        raise not_found(video_id)
    return video


def _earlier(session: Session, caller: Caller, idempotency_key: str, digest: str) -> Video | None:
    by_key = Video.owner == caller.owner, Video.idempotency_key == idempotency_key
    earlier = session.scalar(select(Video).where(*by_key))
    if earlier is not None and earlier.request_digest != digest:
        raise Problem(409, "this Idempotency-Key was used for another request; use a new one", "Idempotency-Key")
    return earlier


def _check_unfinished(session: Session, caller: Caller) -> None:
    if unfinished(session, caller.owner) >= caller.waiting:
        raise retry_later(f"{caller.waiting} of your videos are not finished; wait for one", RETRY_FULL_QUEUE)


def _row(
    video_id: str,
    caller: Caller,
    family: str,
    remix_of: str | None,
    model: str,
    config: Config,
    inspected: Inspected,
    cost: int,
    digest: str,
) -> Video:
    return Video(
        id=video_id,
        owner=caller.owner,
        key_id=caller.key_id,
        family=family,
        remix_of=remix_of,
        state=QUEUED,
        progress=0,
        cancel_requested=False,
        model=model,
        prompt=config.edit.prompt,
        config=config.model_dump(mode="json"),
        frames=inspected.frames,
        width=inspected.width,
        height=inspected.height,
        duration=inspected.duration,
        price=cost,
        request_digest=digest,
        created_at=time.time(),
    )


def _moved(config: Config, old: Path, new: Path) -> Config:
    """A configuration whose files have moved to another folder."""
    text = config.model_dump_json()
    return Config.model_validate_json(text.replace(json.dumps(str(old))[1:-1], json.dumps(str(new))[1:-1]))


def _first_frames(config: Config, frames: int) -> Config:
    return config.model_copy(update={"clip": config.clip.model_copy(update={"frames": frames})})


def _read_size(text: str | None) -> tuple[int, int] | int | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if match is None:
        raise Problem(422, f"size: expected WIDTHxHEIGHT or the shorter side, got {text[:40]!r}", "size")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def _digest(asked: Asked, model: str, wish: Wish, digests: Sequence[str]) -> str:
    """Of everything that a request asks for."""
    plain = replace(asked, clip=Path(asked.clip.name), mask=None, keyframes={}, references=())
    files = [asked.mask is not None, sorted(asked.keyframes), len(asked.references), list(digests)]
    said = [repr(plain), model, wish.webhook_url, files]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
