"""Whether the page can be served here, checked before anything is loaded."""

from importlib.util import find_spec

from tokenflow.errors import EngineError


def check_installed() -> None:
    """Check that Gradio is there.

    Raises:
        EngineError: it is not.
    """
    if find_spec("gradio") is None:
        raise EngineError('the web page needs Gradio; install it with: pip install "tokenflow[ui]"')
