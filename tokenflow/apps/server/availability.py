"""Whether the service can run here, checked before anything of it is imported."""

from importlib.util import find_spec

from tokenflow.errors import EngineError

NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "sse_starlette", "prometheus_client", "multipart", "limits", "httpx")


def check_installed() -> None:
    """Check that the extra is there.

    Raises:
        EngineError: it is not.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise EngineError(
            f'the service needs {", ".join(missing)}; install what it needs with: pip install "tokenflow[serve]"'
        )
