"""What a run was made with."""

import importlib.metadata
import platform

PACKAGES = ("tokenflow", "torch", "diffusers", "transformers", "opencv-python", "av", "kornia", "numpy")


def versions() -> dict[str, str]:
    """Of Python and of the packages that a result depends on."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }
