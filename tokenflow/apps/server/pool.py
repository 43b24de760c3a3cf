"""A pool of workers: takes videos from the queue, gives them to an engine of `tokenflow.batch`, and keeps the score.

Run as a module, it is the child of a server: its options come on standard input, and it ends when that is closed.
"""

import base64
import json
import logging
import os
import signal
import sys
import time
from io import BytesIO
from pathlib import Path
from types import FrameType

from sqlalchemy.exc import InterfaceError, OperationalError

from tokenflow.apps.server.database import Database
from tokenflow.apps.server.faults import INTERNAL
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.lifecycle import (
    cancelled,
    claim,
    complete,
    fail,
    note,
    pools,
    put_back,
    report,
    running_in,
    to_cancel,
)
from tokenflow.apps.server.pool_options import PoolOptions
from tokenflow.apps.server.pools import is_alive, living, new_pool, note_ready
from tokenflow.apps.server.supervisor import end_with_parent
from tokenflow.batch.engine import LastingEngine
from tokenflow.batch.jobs import Job
from tokenflow.batch.local import Processes
from tokenflow.batch.ray import Ray
from tokenflow.batch.run import DEFAULT_RETRIES
from tokenflow.batch.worker import JobResult
from tokenflow.config import Config
from tokenflow.errors import TokenflowError
from tokenflow.events import Event, Notice, Preview, Progress
from tokenflow.store.files import locked
from tokenflow.store.results import REPORT

INTERVAL = 0.25
"""Seconds between two looks at an empty queue, and at what is to be cancelled."""

PROGRESS_INTERVAL = 1.0
"""Seconds between two reports of the progress of a stage."""

SWEEP_INTERVAL = 5.0
"""Seconds between two looks for pools that have died."""

MAX_PREVIEW = 3
"""Frames of a preview."""

NICENESS = 10
"""Of the workers: requests go first."""

OF_CLIENTS = ("ConfigError", "ClipError")
"""Errors that are about what a client asked for or sent; all others are the operator's."""

DATABASE_ERRORS = (OperationalError, InterfaceError)
"""The database is away. They end the pool, which is started again and queues its videos."""

log = logging.getLogger(__name__)


class Queue:
    """The supply and the observer of an engine: videos as jobs.

    Args:
        database: with the queue.
        folders: of the service.
        pool: the name of this one.
    """

    is_open = True

    def __init__(self, database: Database, folders: Folders, pool: str) -> None:
        self._database, self._folders, self._pool = database, folders, pool
        self._looked = self._swept = self._asked = -1e9
        self._is_ready = False
        self._to_cancel: set[str] = set()
        self._failed: set[str] = set()
        """Videos that failed while their jobs run, which are to be stopped."""
        self._reported: dict[str, tuple[str, float]] = {}

    def take(self) -> Job | None:
        """The next video whose turn it is."""
        now = time.monotonic()
        if not self._is_ready:  # engines ask once a worker is free for it
            self._is_ready = True
            note_ready(self._folders.pools, self._pool)
        if now - self._swept > SWEEP_INTERVAL:
            self._swept = now
            self._sweep()
        if now - self._looked < INTERVAL:
            return None
        with self._database.write() as session:
            video = claim(session, self._pool)
        if video is None:
            self._looked = now
            return None
        try:
            return Job(Config.model_validate(video.config))
        except Exception:
            self._fail_internally(video.id)
            return None

    def is_cancelled(self, job: Job) -> bool:
        """Whether its client wants it to stop, or it has failed here."""
        now = time.monotonic()
        if now - self._asked > INTERVAL:
            self._asked = now
            with self._database.read() as session:
                self._to_cancel = set(to_cancel(session, self._pool))
        return _id(job) in self._to_cancel or _id(job) in self._failed

    def on_start(self, job: Job, worker: int) -> None:
        """See `Observer`."""
        log.info("worker %d begins %s", worker, _id(job))

    def on_event(self, job: Job, worker: int, event: Event) -> None:
        """Keep progress, previews and notices for the client. What goes wrong here fails this video alone."""
        if _id(job) in self._failed:
            return
        try:
            self._keep(job, event)
        except DATABASE_ERRORS:
            raise
        except Exception:
            self._failed.add(_id(job))
            self._fail_internally(_id(job))

    def on_finish(self, job: Job, worker: int, result: JobResult) -> None:
        """End the video as its job has ended."""
        video_id = _id(job)
        self._reported.pop(video_id, None)
        if video_id in self._failed:
            self._failed.remove(video_id)
            return
        if result.cancelled:
            with self._database.write() as session:
                cancelled(session, video_id, self._pool)
        elif result.failed:
            code, message = self._reason(job, result)
            with self._database.write() as session:
                fail(session, video_id, self._pool, code, message)
        else:
            try:
                memory = json.loads((job.output / REPORT).read_bytes()).get("peak_memory_mb")
            except (OSError, ValueError):
                self._fail_internally(video_id)
                return
            with self._database.write() as session:
                complete(session, video_id, self._pool, result.seconds, memory)
        ended = "cancelled" if result.cancelled else "failed" if result.failed else "completed"
        log.info("%s is %s after %.1f s", video_id, ended, result.seconds)

    def _keep(self, job: Job, event: Event) -> None:
        match event:
            case Progress():
                self._report(_id(job), event)
            case Preview():
                self._note(_id(job), "preview", {"step": event.step, **_preview(event)})
            case Notice():
                self._note(_id(job), "notice", {"message": self._folders.hide(event.message, job.config)})

    def _fail_internally(self, video_id: str) -> None:
        """In an exception's handler: fail a video, log why, and go on with the others."""
        log.exception("%s has failed", video_id)
        with self._database.write() as session:
            fail(session, video_id, self._pool, "internal_error", INTERNAL)

    def _reason(self, job: Job, result: JobResult) -> tuple[str, str]:
        """The code and the message of a failure; what is a fault of the service is for its log."""
        if result.error is None:
            return "worker_died", "its worker died each time; if memory ran out, ask for a smaller size or fewer frames"
        if result.error in OF_CLIENTS:
            return "invalid_input", self._folders.hide(result.reason or "", job.config)
        log.error("%s has failed: %s", _id(job), result.traceback or result.reason)
        return "internal_error", INTERNAL

    def _report(self, video_id: str, event: Progress) -> None:
        stage, last = self._reported.get(video_id, ("", 0.0))
        now = time.monotonic()
        if event.number is None or event.stages is None:
            return
        if stage == event.stage and event.done != event.total and now - last < PROGRESS_INTERVAL:
            return
        self._reported[video_id] = event.stage, now
        within = event.done / event.total if event.total else 0.0
        progress = int(100 * (event.number - 1 + within) / event.stages)
        with self._database.write() as session:
            report(session, video_id, progress, event.stage, event.run_seconds_left)

    def _note(self, video_id: str, kind: str, data: dict[str, object]) -> None:
        with self._database.write() as session:
            note(session, video_id, kind, data)

    def _sweep(self) -> None:
        """Queue the videos again that pools were making which have died."""
        with self._database.read() as session:
            dead = [pool for pool in pools(session) if pool != self._pool]
        for pool in dead:
            if not is_alive(self._folders.pools, pool):
                self.put_back(pool)

    def put_back(self, pool: str) -> None:
        """Queue the videos of a pool again, each once no worker writes to its result any more."""
        with self._database.read() as session:
            ids = running_in(session, pool)
        for video_id in ids:
            with locked(self._folders.result(video_id), lambda: None):
                pass
            with self._database.write() as session:
                put_back(session, video_id, pool)
            log.info("put %s back", video_id)


def run_pool(options: PoolOptions) -> None:
    """Edit videos until SIGTERM or Ctrl-C; what is unfinished then is queued again.

    Raises:
        EngineError: workers do not start, or there is no Ray.
    """
    folders = Folders(Path(options.data))
    database = Database(options.database)
    engine = _engine(options)
    pool = new_pool()
    queue = Queue(database, folders, pool)
    signal.signal(signal.SIGTERM, _interrupt)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        with living(folders.pools, pool):
            try:
                engine.serve(queue, queue)
            finally:
                queue.put_back(pool)
    except KeyboardInterrupt:
        log.info("the workers have stopped")
    finally:
        database.close()


def _engine(options: PoolOptions) -> LastingEngine:
    if options.engine == "ray":
        return Ray(options.workers, DEFAULT_RETRIES, options.address, options.gpus, preview_every=1)
    if options.workers is not None:
        return Processes(options.workers, DEFAULT_RETRIES, preview_every=1)
    import torch

    return Processes(max(1, torch.cuda.device_count()), DEFAULT_RETRIES, preview_every=1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # what follows is not to be interrupted again
    raise KeyboardInterrupt


def _id(job: Job) -> str:
    """The video of a job: its result folder is named after it."""
    return job.output.name


def _preview(event: Preview) -> dict[str, object]:
    """Some frames beside each other, as a JPEG in a data URL."""
    import numpy as np
    from PIL import Image

    count = len(event.frames)
    chosen = sorted({round(each * (count - 1) / max(1, MAX_PREVIEW - 1)) for each in range(min(MAX_PREVIEW, count))})
    buffer = BytesIO()
    Image.fromarray(np.concatenate([event.frames[index] for index in chosen], axis=1)).save(buffer, "JPEG", quality=80)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return {"frames": [event.indices[index] for index in chosen], "image": f"data:image/jpeg;base64,{encoded}"}


def main() -> None:
    """The process of a pool that is a server's child."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s workers: %(message)s")
    options = PoolOptions.from_line(sys.stdin.buffer.readline())
    end_with_parent()
    try:
        run_pool(options)
    except TokenflowError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
