"""What a result was made with: versions of packages, and an inversion that was reused."""

import importlib.metadata
import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

PACKAGES = {
    "tokenflow": "tokenflow",
    "torch": "torch",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "opencv-python": "cv2",
    "av": "av",
    "kornia": "kornia",
    "numpy": "numpy",
}
"""Distribution -> module, of the packages that a result depends on."""

UNKNOWN = "unknown"


def versions() -> dict[str, str]:
    """The versions of Python and of PACKAGES; "unknown" where neither the distribution nor the module gives one."""
    return {"python": platform.python_version(), **{name: _version(name, PACKAGES[name]) for name in PACKAGES}}


def reused_inversion(content: Mapping[str, Any]) -> str | None:
    """A sentence about a finer inversion that was used in place of the one asked for; None if there was none.

    Args:
        content: what report.json holds.
    """
    used = content.get("inversion")
    if used is None or used["steps"] == 0:  # of a model that cannot be inverted
        return None
    asked = content["settings"]["inversion"]
    differing = [key for key in ("steps", "iterations") if used[key] != asked[key]]
    if not differing:
        return None
    taken, wanted = (" and ".join(f"{each[key]} {key}" for key in differing) for each in (used, asked))
    return f"{used['folder']}, reused: it has {taken}, where {wanted} were asked for"


def _version(distribution: str, module: str) -> str:
    """Of the distribution; or of the module, which may be run from a checkout or come from another distribution."""
    for read in (lambda: importlib.metadata.version(distribution), lambda: import_module(module).__version__):
        with suppress(Exception):  # a broken package must not cost a finished run its report
            if found := read():
                return str(found)
    return UNKNOWN
