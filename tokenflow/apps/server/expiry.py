"""Deleting what has expired: results, then clips that no video needs any more, and uploads that were never accepted."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from tokenflow.apps.server.database import Database
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.tables import UNFINISHED, Event, Video

ABANDONED = 3600.0
"""Seconds after which an upload that no video was made from is deleted."""

log = logging.getLogger(__name__)


def expire(database: Database, folders: Folders, keep: float) -> None:
    """Delete all that has expired by now.

    Args:
        database: with the videos.
        folders: of the service.
        keep: seconds for which files of the web page are kept.
    """
    now = time.time()
    with database.read() as session:
        ids = session.scalars(select(Video.id).where(Video.expires_at < now)).all()
    for video_id in ids:
        with database.write() as session:
            unused = forget_files(session, folders, session.get_one(Video, video_id))
        delete_all(folders, unused)
        log.info("deleted the files of %s", video_id)
    delete_all(folders, _left_over(database, folders, now - ABANDONED))
    for path in list(folders.page.rglob("*")):
        with suppress(FileNotFoundError):  # the page moves and deletes files, too
            if path.is_file() and path.stat().st_mtime < now - keep:
                path.unlink(missing_ok=True)


def forget_files(session: Session, folders: Folders, video: Video, *, forget: bool = False) -> list[Path]:
    """Delete the events of a video that has ended. The folders to delete once that is committed.

    Args:
        session: of a write.
        folders: of the service.
        video: one that has ended.
        forget: what was asked for, too; then clients do not see it any more.
    """
    if forget:
        video.deleted_at = time.time()
        video.prompt, video.config, video.webhook_url = "", {}, None
    video.expires_at = None
    session.execute(delete(Event).where(Event.video_id == video.id))
    session.flush()
    clip = [] if is_clip_kept(session, video.family) else [folders.family(video.family)]
    return [folders.result(video.id), *clip]


def is_clip_kept(session: Session, family: str) -> bool:
    """Whether any video still needs a clip, or may be remixed with it."""
    needs_it = Video.state.in_(UNFINISHED) | (Video.expires_at > time.time())
    found = select(func.count()).where(Video.family == family, Video.deleted_at.is_(None), needs_it)
    return bool(session.scalar(found))


def delete_all(folders: Folders, unused: Iterable[Path]) -> None:
    """Delete folders of the service."""
    for folder in unused:
        folders.delete(folder)


def _left_over(database: Database, folders: Folders, before: float) -> Iterator[Path]:
    """Folders from before a time that no video needs: those of a server that was killed just then."""
    for folder in (*folders.incoming.iterdir(), *folders.families.iterdir(), *folders.results.iterdir()):
        with suppress(FileNotFoundError):  # it has been moved or deleted since
            if folder.stat().st_mtime >= before:
                continue
            with database.read() as session:
                is_result = folder.parent == folders.results
                if not (_is_result_kept(session, folder.name) if is_result else is_clip_kept(session, folder.name)):
                    yield folder


def _is_result_kept(session: Session, video_id: str) -> bool:
    video = session.get(Video, video_id)
    return video is not None and (video.state in UNFINISHED or video.expires_at is not None)
