"""Put together the files of a hosted Space that runs the web page: the package, the bundled models and clips, and what
the host reads.

python -m tools.space FOLDER
hf upload NAME/tokenflow FOLDER --repo-type space
"""

import argparse
import shutil
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

CONTENT = ("app.py", "LICENSE", "tokenflow", "configs", "data")

PYTHON = "3.11"

README = """---
title: tokenflow
emoji: 🐕
colorFrom: indigo
colorTo: gray
sdk: gradio
sdk_version: {gradio}
app_file: app.py
python_version: "{python}"
license: mit
short_description: Edit a clip by a sentence, without flicker
---

The web page of tokenflow, open to all, with the bundled models and clips.
"""
"""What the host reads first: the settings of the Space."""


def build(folder: Path) -> None:
    """Write all files of the Space to a folder, which must not exist."""
    folder.mkdir(parents=True)
    for name in CONTENT:
        source, copy = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, copy)
    pins = _pins()
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements(pins)), encoding="utf-8")
    readme = README.format(gradio=pins["gradio"].partition("==")[2], python=PYTHON)
    (folder / "README.md").write_text(readme, encoding="utf-8")


def requirements(pins: dict[str, str]) -> list[str]:
    """What has to be installed beside Gradio, which comes with the Space, at the versions of constraints.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {_name(line): line for line in [*project["dependencies"], *project["optional-dependencies"]["ui"]]}
    return [pins.get(name, line) for name, line in wanted.items() if name != "gradio"]


def _pins() -> dict[str, str]:
    """The lines of constraints.txt by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    stripped = [line.partition("#")[0].strip() for line in lines]
    return {_name(line): line for line in stripped if line}


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def main() -> None:
    """Put them together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    build(parser.parse_args().folder)


if __name__ == "__main__":
    main()
