"""The web page as a hosted Space runs it: open to all, with the bundled models and examples and no others."""

from tokenflow.apps.web import serve
from tokenflow.apps.web.space import Space

if __name__ == "__main__":
    serve("0.0.0.0", space=Space(is_local=False))
