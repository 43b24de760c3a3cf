"""The OpenAPI document is true: whatever fits it, and whatever does not, is answered as it says."""

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.apps.server.fixtures import Submit
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.pools import living

pytestmark = pytest.mark.serve

EXAMPLES = 15
"""Requests per operation and kind."""

OPERATIONS = [
    ("POST", "/v1/videos"),
    ("GET", "/v1/videos"),
    ("GET", "/v1/videos/{video_id}"),
    ("GET", "/v1/videos/{video_id}/events"),
    ("GET", "/v1/videos/{video_id}/content"),
    ("GET", "/v1/videos/{video_id}/report"),
    ("POST", "/v1/videos/{video_id}/remix"),
    ("POST", "/v1/videos/{video_id}/cancel"),
    ("DELETE", "/v1/videos/{video_id}"),
    ("GET", "/v1/models"),
    ("GET", "/v1/usage"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]


def test_every_operation_is_tried(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    assert sorted(OPERATIONS) == sorted((method.upper(), path) for path in paths for method in paths[path])


WITHOUT_INPUT = ("/v1/models", "/v1/usage", "/healthz", "/readyz", "/metrics")

KINDS = [
    *((*each, GenerationMode.POSITIVE) for each in OPERATIONS),
    *((*each, GenerationMode.NEGATIVE) for each in OPERATIONS if each[1] not in WITHOUT_INPUT),
]


@pytest.mark.parametrize(("method", "path", "mode"), KINDS)
def test_answers_are_as_the_document_says(
    method: str,
    path: str,
    mode: GenerationMode,
    app: FastAPI,
    client: TestClient,
    key: str,
    submit: Submit,
    folders: Folders,
) -> None:
    submit()
    document = schemathesis.openapi.from_asgi("/openapi.json", app)
    operation = document[path][method]
    headers = {"Authorization": f"Bearer {key}"}

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers, excluded_checks=excluded)

    # No bytes that are drawn at random are a clip.
    excluded = [positive_data_acceptance] if (method, path) == OPERATIONS[0] else []
    with living(folders.pools, "pool"):
        check()
