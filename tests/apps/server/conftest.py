"""A service on each of its databases, with a tiny model and clips that take a moment to edit.

Where the extra `serve` is missing, nothing of this folder is collected.
"""

from importlib.util import find_spec

NEEDED = (
    "fastapi",
    "sqlalchemy",
    "psycopg",
    "sse_starlette",
    "prometheus_client",
    "limits",
    "openai",
    "schemathesis",
    "psutil",
)

if any(find_spec(name) is None for name in NEEDED):
    collect_ignore_glob = ["test_*.py"]
else:
    from tests.apps.server.fixtures import *  # noqa: F403
