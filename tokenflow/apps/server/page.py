"""The web page of the service, in a process of its own: it looks at uploads, and has the workers edit.

Visitors enter with the name of their key and the key. Their edits wait in the same queue, for the same credits.
"""

import hashlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI
from sqlalchemy import select

from tokenflow.apps.server.callers import Caller
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.decoding import Inspector
from tokenflow.apps.server.edits import OF_EDIT, OF_PAGE, of_page
from tokenflow.apps.server.folders import Folders, new_id
from tokenflow.apps.server.keys import recognise
from tokenflow.apps.server.lifecycle import ask_to_cancel
from tokenflow.apps.server.page_options import PageOptions
from tokenflow.apps.server.problems import Problem
from tokenflow.apps.server.rates import Rates
from tokenflow.apps.server.settings import ServerSettings
from tokenflow.apps.server.submission import Submissions
from tokenflow.apps.server.supervisor import end_with_parent
from tokenflow.apps.server.tables import CANCELLED, FAILED, UNFINISHED, Key, Video
from tokenflow.apps.uploads import Limits
from tokenflow.apps.web.serving import CACHE, mount
from tokenflow.apps.web.space import DIGITS, Space
from tokenflow.config import Config
from tokenflow.errors import Cancelled, ConfigError
from tokenflow.events import Cancel, Listener, Progress

if TYPE_CHECKING:
    from tokenflow.pipeline import Trial

POLL_INTERVAL = 0.5
"""Seconds between two looks at a video."""


class QueueEditor:
    """Has the workers of the service edit.

    Args:
        settings: of the server.
        database: with the queue.
        folders: of the service.
    """

    has_trials = False

    def __init__(self, settings: ServerSettings, database: Database, folders: Folders) -> None:
        self._settings, self._database, self._folders = settings, database, folders
        self._submissions = Submissions(settings, database, folders, Inspector(settings.decode_seconds, folders))
        self._rates = Rates(database)

    def trial(self, config: Config, on_event: Listener, cancel: Cancel) -> "Trial":
        """The workers edit whole clips.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("this service tries no single frames; edit the whole clip, or a part of few frames")

    def edit(self, config: Config, on_event: Listener, cancel: Cancel) -> None:
        """Queue an edit, wait for it, and copy its result to the visitor's folder.

        Raises:
            ConfigError: it is refused or has failed.
            Cancelled: `cancel` returned True.
        """
        visitor = config.output.dir.parent.name
        name = config.model.path  # where visitors choose one by name
        video_id = new_id("video")
        family = f"page-{visitor}"
        inversions, result = self._folders.family(family) / "inversions", self._folders.result(video_id)
        try:
            queued = of_page(config, self._settings.variants[name], inversions, result)
            caller = self._caller(visitor)
            if caller.rate is not None and self._rates.seconds_to_wait(caller.rate, caller.owner):
                raise ConfigError(f"more than {caller.rate} edits; try again later")
            self._submissions.queue(caller, video_id, family, name, queued)
        except Problem as problem:
            raise ConfigError(problem.detail) from problem
        self._follow(video_id, on_event, cancel)
        shutil.copytree(self._folders.result(video_id), config.output.dir, dirs_exist_ok=True)

    def _follow(self, video_id: str, on_event: Listener, cancel: Cancel) -> None:
        """Report how far a video is until it has ended."""
        while True:
            with self._database.read() as session:
                video = session.get_one(Video, video_id)
            if video.state not in UNFINISHED:
                break
            stage = video.stage or "waiting"
            on_event(Progress(stage, video.progress, 100, run_seconds_left=video.seconds_left))
            if cancel() and not video.cancel_requested:
                with self._database.write() as session:
                    ask_to_cancel(session, session.get_one(Video, video_id))
            time.sleep(POLL_INTERVAL)
        if video.state == CANCELLED:
            raise Cancelled("cancelled")
        if video.state == FAILED:
            raise ConfigError(video.error_message or "the edit failed")

    def _caller(self, visitor: str) -> Caller:
        """The key of a visitor, whose folder is named after the name of the key."""
        with self._database.read() as session:
            for key in session.scalars(select(Key).where(Key.revoked_at.is_(None))):
                if f"user-{hashlib.sha256(key.name.encode()).hexdigest()[:DIGITS]}" == visitor:
                    models = tuple(self._settings.variants)
                    return Caller(f"key:{key.id}", key.id, key.name, key.rate, models, self._settings.waiting)
        raise ConfigError("your key was revoked")


def may_enter(database: Database) -> Callable[[str, str], bool]:
    """A check of the name of a key and the key."""

    def check(name: str, given: str) -> bool:
        with database.read() as session:
            key = recognise(session, given)
        return key is not None and key.name == name

    return check


def page_space(settings: ServerSettings, folders: Folders) -> Space:
    """What the page may use: variants with their limits, the settings that the API allows, and a folder."""
    all_limits = [variant.limits for variant in settings.variants.values()]
    return Space(
        outputs=folders.page,
        trajectories=folders.page / "inversions",
        examples=(),
        models=tuple(settings.variants),
        is_local=False,
        edit_settings=(*OF_PAGE, *OF_EDIT),
        limits=Limits(
            max(limits.megabytes for limits in all_limits),
            max(limits.seconds for limits in all_limits),
            max(limits.pixels for limits in all_limits),
        ),
    )


def create_page(settings: ServerSettings, database: Database, folders: Folders) -> tuple[FastAPI, Any]:
    """The page as an application under /ui, and its state."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    editor = QueueEditor(settings, database, folders)
    site = mount(app, "/ui", page_space(settings, folders), may_enter(database), editor)
    return app, site


def main() -> None:
    """The process of the page: options come on standard input, and it ends when that is closed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s page: %(message)s")
    options = PageOptions.from_line(sys.stdin.buffer.readline())
    end_with_parent()
    folders, database = Folders(Path(options.data)), Database(options.database)
    with TemporaryDirectory(prefix="tokenflow-ui-") as cache:
        os.environ[CACHE] = cache
        app, site = create_page(options.settings, database, folders)
        try:
            uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", timeout_graceful_shutdown=1)
        finally:
            site.jobs.close()


if __name__ == "__main__":
    main()
