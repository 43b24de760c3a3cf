"""The web page: a clip and two sentences in, an edited clip out, in a browser. Needs the extra `ui`.

from tokenflow.apps.web import mount
mount(app)    # a FastAPI application; the page is at /ui
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenflow.apps.web.serving import mount, serve

__all__ = ["mount", "serve"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: Gradio takes seconds, and is not installed everywhere."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tokenflow.apps.web import serving

    return getattr(serving, name)
