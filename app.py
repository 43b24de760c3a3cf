"""The web page as a hosted Space runs it: open to all, with the bundled models and examples and no others."""

import os

from tokenflow.apps.web import serve
from tokenflow.apps.web.space import Space

if __name__ == "__main__":
    serve("0.0.0.0", int(os.environ.get("GRADIO_SERVER_PORT", "7860")), space=Space(is_local=False))
