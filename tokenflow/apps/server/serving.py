"""`tokenflow serve`: what can be checked is checked before anything starts; then the server, and its workers."""

import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import uvicorn

from tokenflow.apps.ports import check_port, free_port
from tokenflow.apps.server.app import create_app
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.edits import Asked, configuration
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.keys import has_keys
from tokenflow.apps.server.page_options import PageOptions
from tokenflow.apps.server.pool_options import EngineName, PoolOptions
from tokenflow.apps.server.problems import Problem
from tokenflow.apps.server.settings import ServerSettings, read_settings
from tokenflow.apps.server.supervisor import Supervisor
from tokenflow.apps.web.access import LOCAL
from tokenflow.errors import BatchError, ConfigError

Part = Literal["all", "server", "workers"]

KEEP_ALIVE_SECONDS = 75
"""That connections stay open between requests: longer than clients poll, who otherwise send into a closing one."""

SHUTDOWN_SECONDS = 5
"""That open requests get when the server ends."""


@dataclass(frozen=True)
class ServeOptions:
    """The options of the command.

    Attributes:
        config: the server's YAML; None for the bundled model.
        data: the folder of the service.
        database: its URL; None for SQLite in that folder.
        host: the network interface to listen at.
        port: the port.
        part: what to run: the server, workers, or all.
        workers: how many; None for one per GPU, or one.
        engine: processes of this machine, or Ray.
        address: of a Ray cluster.
        gpus: per worker on Ray.
    """

    config: Path | None
    data: Path
    database: str | None
    host: str
    port: int
    part: Part
    workers: int | None
    engine: EngineName
    address: str | None
    gpus: float | None


def serve(options: ServeOptions, on_start: Callable[[str], Any]) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Args:
        options: of the command.
        on_start: called with the address of the service.

    Raises:
        ConfigError: settings are wrong, or others could reach the server and there is no key.
        EngineError: the port is taken, or the database cannot be opened.
        OutputError: the folder cannot be written to.
    """
    if options.engine != "ray" and (options.address is not None or options.gpus is not None):
        raise BatchError("address and gpus apply to the ray engine only; leave them out, or choose --engine ray")
    folders = Folders(options.data)
    url = options.database or folders.database
    pool = PoolOptions(
        str(folders.root),
        url,
        options.workers,
        options.engine,
        options.address,
        options.gpus,
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.part == "workers":
        from tokenflow.apps.server.pool import run_pool

        run_pool(pool)
        return
    settings = read_settings(options.config)
    _check_variants(settings)
    database = Database(url)
    _check_reachable(options, settings, database)
    page = _page(options, settings, folders, url)
    children = [] if page is None else [Supervisor("tokenflow.apps.server.page", page.to_line())]
    if options.part == "all":
        children.append(Supervisor("tokenflow.apps.server.pool", pool.to_line()))
    try:
        for child in children:
            child.start()
        on_start(f"http://{options.host}:{options.port}")
        signal.signal(signal.SIGTERM, _interrupt)  # uvicorn raises it again, which would end us before the children
        with suppress(KeyboardInterrupt):
            uvicorn.run(
                create_app(settings, database, folders, None if page is None else page.port),
                host=options.host,
                port=options.port,
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
    finally:
        for child in children:
            child.stop()
        database.close()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _page(options: ServeOptions, settings: ServerSettings, folders: Folders, url: str) -> PageOptions | None:
    """What the page needs, with a port that is free; None where it is switched off, or Gradio is not installed."""
    if not settings.page or find_spec("gradio") is None:
        return None
    return PageOptions(data=str(folders.root), database=url, port=free_port(), settings=settings)


def _check_reachable(options: ServeOptions, settings: ServerSettings, database: Database) -> None:
    """Refuse to be reached by others before there is a key."""
    if options.host not in LOCAL and settings.free is None and not has_keys(database):
        raise ConfigError(
            f"others can reach the server at {options.host}, and there is no key that lets them in; create one: "
            "tokenflow keys create NAME --credits 1000"
        )
    check_port(options.host, options.port)


def _check_variants(settings: ServerSettings) -> None:
    """Check that the settings of each variant make a configuration."""
    for name, variant in settings.variants.items():
        asked = Asked(
            "", "", None, variant.modes[0], None, None, None, {}, Path("clip"), None, {0: Path("frame_0.png")}
        )
        try:
            configuration(asked, variant, Path("inversions"), Path("result"))
        except Problem as problem:
            raise ConfigError(f"variants.{name}: {problem.detail}") from problem
