"""The versions of the packages that a result was made with."""

import importlib.metadata
import platform
from contextlib import suppress
from importlib import import_module

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


def _version(distribution: str, module: str) -> str:
    """Of the distribution; or of the module, which may be run from a checkout or come from another distribution."""
    for read in (lambda: importlib.metadata.version(distribution), lambda: import_module(module).__version__):
        with suppress(Exception):  # a broken package must not cost a finished run its report
            if found := read():
                return str(found)
    return UNKNOWN
