"""`tokenflow ui`: the web page."""

from pathlib import Path
from typing import Annotated

import typer

from tokenflow.apps.examples import examples
from tokenflow.apps.terminal import print_lines

app = typer.Typer()


@app.command(epilog=examples("tokenflow ui", "tokenflow ui --port 8000"))
def ui(
    port: Annotated[int, typer.Option(help="Of the page.", min=1, max=65535)] = 7860,
    address: Annotated[
        str,
        typer.Option(
            help="Network interface to listen at; any but this machine's own needs a password: that in "
            "TOKENFLOW_UI_PASSWORD, in a file, or typed at a prompt."
        ),
    ] = "127.0.0.1",
    password_file: Annotated[Path | None, typer.Option(help="File whose first line is the password.")] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Get a public link to the page from Gradio's servers; needs a password.")
    ] = False,
) -> None:
    """Serve the web page, on which clips are edited in a browser, until Ctrl-C."""
    from tokenflow.apps.ports import check_port
    from tokenflow.apps.web.access import find_password
    from tokenflow.apps.web.availability import check_installed

    password = find_password(address, password_file, share=share)
    check_installed()
    check_port(address, port)
    from tokenflow.apps.web.serving import serve

    serve(
        address,
        port,
        password,
        share=share,
        on_start=lambda url: print_lines(f"open {url} in a browser; Ctrl-C ends it"),
    )
