"""Deleting what has expired: results, then clips that no video needs any more, and uploads that were never accepted."""

import logging
import time
from collections.abc import Iterator
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
            delete_files(session, folders, session.get_one(Video, video_id))
        log.info("deleted the files of %s", video_id)
    for folder, known in _left_over(database, folders, now - ABANDONED):
        if not known:
            folders.delete(folder)
    for path in folders.page.rglob("*"):
        if path.is_file() and path.stat().st_mtime < now - keep:
            path.unlink(missing_ok=True)


def delete_files(session: Session, folders: Folders, video: Video, *, forget: bool = False) -> None:
    """Delete the files and events of a video that has ended, and its clip if no other needs it.

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
    folders.delete(folders.result(video.id))
    of_family = Video.family == video.family, Video.id != video.id, Video.deleted_at.is_(None)
    alive = Video.state.in_(UNFINISHED) | (Video.expires_at > time.time())
    if not session.scalar(select(func.count()).where(*of_family, alive)):
        folders.delete(folders.family(video.family))


def _left_over(database: Database, folders: Folders, before: float) -> Iterator[tuple[Path, bool]]:
    """Folders of uploads from before a time, and whether a video has them: none has if the server was killed then."""
    for folder in (*folders.incoming.iterdir(), *folders.families.iterdir()):
        if folder.stat().st_mtime < before:
            with database.read() as session:
                of_family = select(Video.id).where(Video.family == folder.name).limit(1)
                yield folder, session.scalar(of_family) is not None
