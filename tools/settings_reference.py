"""Write docs/settings.md, the reference of all settings, from the schema of `Config`.

    python -m tools.settings_reference

`make docs` runs this. A test checks that the committed file is up to date.
"""

from dataclasses import replace
from pathlib import Path

from tokenflow.config import Config, LoRATraining
from tokenflow.config.reference import SectionReference, SettingReference, all_sections
from tokenflow.config.renamed import RENAMED_KEYS, RENAMED_VALUES

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

INTRODUCTION = """\
# Settings

All settings of a configuration file, by section. The same keys work on the command line and in the environment:

    tokenflow edit my_edit.yaml edit.steps=50 "edit.prompt=a wolf made of ice"
    TOKENFLOW_EDIT__STEPS=50 tokenflow edit my_edit.yaml

The command line overrides the environment, which overrides the file, which overrides those it names in `extends:`.
Relative paths start at the working directory, those in `extends:` at the file; `~` is the home directory. Any value can
refer to another as `${clip.prompt}`. `tokenflow config my_edit.yaml` prints the result, and `tokenflow schema` the JSON
Schema by which editors complete and check such files.

This page is generated from `tokenflow/config/sections/` by `make docs`.
"""


def document() -> str:
    """The whole page, in Markdown."""
    return "\n".join([INTRODUCTION, *map(_section, all_sections(Config)), _training(), _former_names()])


def _training() -> str:
    """The settings of `tokenflow train-lora`; those of its model are the same as above."""
    own = replace(next(iter(all_sections(LoRATraining))), key="")
    return _section(own).replace("## Top level", "## Training a LoRA", 1)


def _section(section: SectionReference) -> str:
    """A section as a heading, an introduction and a table."""
    heading = f"## {f'`{section.key}`' if section.key else 'Top level'}"
    table = ["| setting | values | default | what it does |", "|---|---|---|---|", *map(_row, section.settings)]
    return "\n".join([heading, "", section.description, "", *table, ""])


def _row(setting: SettingReference) -> str:
    default = "required" if setting.default is None else f"`{setting.default}`"
    description = setting.description.replace("|", r"\|")
    return f"| `{setting.key}` | {setting.values} | {default} | {description} |"


def _former_names() -> str:
    keys = [f"- `{former}` is `{key}`" for former, key in RENAMED_KEYS.items()]
    values = [
        f"- `{key}: {former}` is `{key}: {value}`"
        for key, renamed in RENAMED_VALUES.items()
        for former, value in renamed.items()
    ]
    return "\n".join(["## Former names\n\nStill accepted:\n", *keys, *values]) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8", newline="\n")
