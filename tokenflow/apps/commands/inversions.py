"""`tokenflow inversions`: what is stored, how much it takes, and how to make room."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenflow.apps.examples import examples
from tokenflow.apps.terminal import print_lines
from tokenflow.config import Trajectories

if TYPE_CHECKING:
    from tokenflow.store.listing import ListedInversion

app = typer.Typer(help="Stored inversions: list them, see what they take, and delete some.", no_args_is_help=True)

Store = Annotated[Path, typer.Argument(help="The folder that keeps inversions (trajectories.dir).", metavar="FOLDER")]
DEFAULT_STORE = Trajectories().dir


@app.command("list", epilog=examples("tokenflow inversions list"))
def list_all(store: Store = DEFAULT_STORE) -> None:
    """List every inversion: its folder, size, last change, steps and prompt."""
    for inversion in _listed(store):
        print_lines(_line(inversion))


@app.command(epilog=examples("tokenflow inversions size"))
def size(store: Store = DEFAULT_STORE) -> None:
    """Say how much disk space all inversions take."""
    print_lines(_sum(_listed(store)))


@app.command(
    epilog=examples(
        "tokenflow inversions prune --older-than 30",
        "tokenflow inversions prune --unfinished --dry-run",
        "tokenflow inversions prune --flow",
    )
)
def prune(
    store: Store = DEFAULT_STORE,
    older_than: Annotated[
        int | None, typer.Option(min=0, help="Delete those last written more than this many days ago.", metavar="DAYS")
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Delete those that were interrupted, or that another version made.")
    ] = False,
    flow: Annotated[
        bool, typer.Option("--flow", help="Delete only the optical flow that edits left with them; alone, of all.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which would be deleted.")] = False,
) -> None:
    """Delete inversions that are old or unfinished, or their flow. An edit that needs them makes them again."""
    from tokenflow.errors import ConfigError, OutputError
    from tokenflow.store.listing import remove_flow, remove_inversion

    if older_than is None and not unfinished and not flow:
        raise ConfigError("say which inversions to delete: --older-than DAYS, --unfinished, or both; or --flow")
    every = older_than is None and not unfinished
    chosen = [
        inversion
        for inversion in _listed(store)
        if every
        or (older_than is not None and inversion.is_older_than(timedelta(days=older_than)))
        or (unfinished and not inversion.complete)
    ]
    removed = []
    for inversion in chosen:
        try:
            if not dry_run:
                (remove_flow if flow else remove_inversion)(inversion)
        except OutputError as error:
            print_lines(str(error))
        else:
            removed.append(inversion)
            print_lines(_line(inversion))
    freed = f"the flow of {_sum(removed, flow=True)}" if flow else _sum(removed)
    print_lines(f"{'would delete' if dry_run else 'deleted'} {freed}")


def _listed(store: Path) -> "list[ListedInversion]":
    from tokenflow.errors import ConfigError
    from tokenflow.store.listing import listed_inversions

    if not store.is_dir():
        raise ConfigError(f"the folder {store} was not found; inversions are kept in trajectories.dir")
    return list(listed_inversions(store))


def _line(inversion: "ListedInversion") -> str:
    from tokenflow.report.units import format_bytes

    state = f"{inversion.steps} steps" if inversion.complete else "unfinished"
    flow = f" ({format_bytes(inversion.flow_bytes)} of it flow)" if inversion.flow_bytes else ""
    size = f"{format_bytes(inversion.bytes)}{flow}"
    parts = [str(inversion.folder), size, f"{inversion.written:%Y-%m-%d}", state]
    return "  ".join([*parts, *([inversion.prompt] if inversion.prompt else [])])


def _sum(inversions: "list[ListedInversion]", *, flow: bool = False) -> str:
    from tokenflow.report.units import format_bytes

    count, taken = len(inversions), sum(each.flow_bytes if flow else each.bytes for each in inversions)
    return f"{count} inversion{'s' * (count != 1)}, {format_bytes(taken)}"
