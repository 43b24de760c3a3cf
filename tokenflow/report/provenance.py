"""What a run was made with, and its record as JSON."""

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

PACKAGES = ("tokenflow", "torch", "diffusers", "transformers", "opencv-python", "av", "kornia", "numpy")


def versions() -> dict[str, str]:
    """Of Python and of the packages that a result depends on."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
