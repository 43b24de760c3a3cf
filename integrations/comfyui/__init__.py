"""TokenFlow in ComfyUI: nodes that edit clips by a sentence. The work is the library's; nothing happens on import."""

from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .extension import TokenflowExtension

WEB_DIRECTORY = "./web"
"""Where ComfyUI finds the help pages of the nodes."""


async def comfy_entrypoint() -> "TokenflowExtension":
    """The nodes, once ComfyUI asks for them."""
    check_library()
    from .extension import TokenflowExtension

    return TokenflowExtension()


def check_library() -> None:
    """Check that the library is there: another project of its name is on PyPI.

    Raises:
        ImportError: it is not.
    """
    with suppress(ModuleNotFoundError):
        if find_spec("tokenflow.config") is not None:
            return
    raise ImportError(
        "the library tokenflow is missing from ComfyUI's Python, or another package of that name is installed; install "
        "it from its repository, with the pip of ComfyUI: pip install path/to/tokenflow"
    )
