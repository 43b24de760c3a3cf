"""`tokenflow preprocess`, `edit` and `init`: one clip."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenflow.apps.commands.arguments import ConfigPath, Overrides, Prompt, Quiet, SourcePrompt
from tokenflow.apps.examples import examples
from tokenflow.apps.init import write_configuration
from tokenflow.apps.one_line import one_line_config, refuse_clip
from tokenflow.apps.result_lines import edit_lines, preprocess_lines
from tokenflow.apps.terminal import print_lines, terminal_listener
from tokenflow.apps.words import refuse_stray_words

if TYPE_CHECKING:
    from tokenflow.config import Config

app = typer.Typer()


@app.command(
    epilog=examples(
        "tokenflow preprocess configs/dog_to_tiger.yaml",
        "tokenflow preprocess configs/dog_to_tiger.yaml inversion.steps=50",
    )
)
def preprocess(config: ConfigPath, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Stage 1: read the clip, invert it, check the reconstruction."""
    import tokenflow

    refuse_stray_words(overrides or [])
    settings = tokenflow.load_config(config, overrides or ())
    with terminal_listener(quiet) as on_event:
        result = tokenflow.preprocess(settings, on_event=on_event)
    print_lines(*preprocess_lines(result))


@app.command(
    epilog=examples(
        "tokenflow edit configs/dog_to_tiger.yaml",
        'tokenflow edit configs/dog_to_tiger.yaml "edit.prompt=a jade dog on grass, 3d style" output.dir=outputs/jade',
        'tokenflow edit clip.mp4 --from "a dog on grass" --to "a tiger on grass" edit.mode=sdedit',
        "tokenflow edit configs/dog_to_tiger.yaml --try 3",
    )
)
def edit(
    source: Annotated[str, typer.Argument(help="A YAML file; or a clip, with --from and --to.", metavar="CONFIG|CLIP")],
    overrides: Overrides = None,
    source_prompt: SourcePrompt = None,
    prompt: Prompt = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Edit from so many seeds, edit.seed and up, and write only an image of all, seeds.png.", min=1
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--try",
            help="Edit so many frames, spread over the clip, and write only an image of them beside the source, "
            "trial.png.",
            min=1,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and the time, memory and disk space it takes.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Both stages: edit the clip; runs stage 1 first if its result is missing."""
    import tokenflow

    settings = _settings(source, source_prompt, prompt, overrides or [])
    if dry_run:
        from tokenflow.apps.dry_run import dry_run_lines

        print_lines(*dry_run_lines(settings, seeds))
        return
    with terminal_listener(quiet) as on_event:
        if seeds is not None:
            print_lines(f"{'seeds':<15} {tokenflow.seed_sheet(settings, seeds, on_event=on_event)}")
            return
        if frames is not None:
            print_lines(f"{'trial':<15} {tokenflow.trial_sheet(settings, frames, on_event=on_event)}")
            return
        result = tokenflow.run(settings, on_event=on_event)
    print_lines(*edit_lines(result))


def _settings(source: str, source_prompt: str | None, prompt: str | None, overrides: list[str]) -> "Config":
    """The configuration of an edit: from a file, or from a clip and two sentences."""
    from tokenflow.config import load_config

    if source_prompt is not None or prompt is not None:
        return one_line_config(source, source_prompt, prompt, overrides)
    refuse_clip(source, overrides)
    refuse_stray_words(overrides)
    return load_config(source, overrides)


@app.command(
    epilog=examples(
        "tokenflow init clip.mp4",
        'tokenflow init clip.mp4 --from "a dog on grass" --to "a tiger on grass" --output tiger.yaml',
    )
)
def init(
    clip: Annotated[str, typer.Argument(help="A video, an image, a folder of images, or a pattern.", metavar="CLIP")],
    source_prompt: SourcePrompt = None,
    prompt: Prompt = None,
    output: Annotated[
        Path | None, typer.Option(help="The YAML file to write; by default named after the clip.", show_default=False)
    ] = None,
) -> None:
    """Write a commented configuration for a clip, to be filled in."""
    path = output or Path(f"{Path(clip).stem}.yaml")
    write_configuration(path, clip, source_prompt, prompt)
    print_lines(str(path))
