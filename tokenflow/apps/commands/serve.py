"""`tokenflow serve` and `keys`: the service over HTTP, and the keys of its clients."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tokenflow.apps.commands.arguments import EngineChoice
from tokenflow.apps.examples import examples
from tokenflow.apps.terminal import print_lines

app = typer.Typer()

Data = Annotated[Path, typer.Option(help="Folder of the service: its database, clips and results.")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="TOKENFLOW_DATABASE",
        help="URL of a PostgreSQL database, such as postgresql://user@host/name; by default SQLite in --data.",
        show_default=False,
    ),
]


class PartChoice(StrEnum):
    """Which part of the service runs in a process."""

    all = "all"
    server = "server"
    workers = "workers"


@app.command(
    epilog=examples(
        "tokenflow keys create me --credits 1000", "tokenflow serve", "tokenflow serve --config server.yaml --workers 2"
    )
)
def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with models, prices and limits; by default the bundled model.", show_default=False
        ),
    ] = None,
    data: Data = Path("service"),
    port: Annotated[int, typer.Option(help="Of the service.", min=1, max=65535)] = 8000,
    host: Annotated[
        str, typer.Option(help="Network interface to listen at; any but this machine's own needs a key.")
    ] = "127.0.0.1",
    database: DatabaseUrl = None,
    part: Annotated[
        PartChoice, typer.Option(help="Run all of the service, or only its server or its workers.")
    ] = PartChoice.all,
    workers: Annotated[
        int | None, typer.Option(help="Maximum number of jobs at once; by default one per GPU, or one.", min=1)
    ] = None,
    engine: Annotated[EngineChoice, typer.Option(help="This machine, or Ray.")] = EngineChoice.local,
    address: Annotated[
        str | None, typer.Option(help="Ray: the cluster to join; by default Ray is started on this machine.")
    ] = None,
    gpus: Annotated[float | None, typer.Option(help="Ray: GPUs per worker, may be a fraction.", min=0)] = None,
) -> None:
    """Serve edits over HTTP, until Ctrl-C."""
    from tokenflow.apps.server.availability import check_installed

    check_installed()
    from tokenflow.apps.server.serving import ServeOptions
    from tokenflow.apps.server.serving import serve as serve_all

    options = ServeOptions(config, data, database, host, port, part.value, workers, engine.value, address, gpus)
    serve_all(options, lambda url: print_lines(f"serving at {url}, described at {url}/docs; Ctrl-C ends it"))


keys = typer.Typer(help="Keys of the service's clients.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@keys.command("create", epilog=examples("tokenflow keys create ann --credits 1000 --rate 10/min"))
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.", metavar="NAME")],
    credits: Annotated[int, typer.Option(help="What it may spend.", min=0)] = 0,
    rate: Annotated[
        str | None,
        typer.Option(help="Maximum rate of submissions, such as 10/min; by default none.", show_default=False),
    ] = None,
    data: Data = Path("service"),
    database: DatabaseUrl = None,
) -> None:
    """Make a key, and print it alone on the last line."""
    from tokenflow.apps.server.availability import check_installed

    check_installed()
    from tokenflow.apps.server.commands import create_lines

    print_lines(*create_lines(data, database, name, credits, rate))


@keys.command("list", epilog=examples("tokenflow keys list"))
def list_keys(data: Data = Path("service"), database: DatabaseUrl = None) -> None:
    """List names, credits and rates; the keys themselves are not stored."""
    from tokenflow.apps.server.availability import check_installed

    check_installed()
    from tokenflow.apps.server.commands import list_lines

    print_lines(*list_lines(data, database))


@keys.command("revoke", epilog=examples("tokenflow keys revoke ann"))
def revoke_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.", metavar="NAME")],
    data: Data = Path("service"),
    database: DatabaseUrl = None,
) -> None:
    """Revoke a key."""
    from tokenflow.apps.server.availability import check_installed

    check_installed()
    from tokenflow.apps.server.commands import revoke

    revoke(data, database, name)
    print_lines(f"revoked {name}")
