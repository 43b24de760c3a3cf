"""The OpenAPI document is true: whatever fits it, and whatever does not, is answered as it says."""

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.apps.server.fixtures import Drain, Submit
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.expiry import expire
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.pools import living, note_ready
from tokenflow.apps.server.tables import Video

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
        note_ready(folders.pools, "pool")
        check()


def test_answers_about_real_videos_are_as_the_document_says(
    app: FastAPI, client: TestClient, key: str, submit: Submit, drain: Drain, database: Database, folders: Folders
) -> None:
    """Each status that an id drawn at random never reaches."""
    document = schemathesis.openapi.from_asgi("/openapi.json", app)

    def ask(method: str, path: str, status: int, video_id: str = "", **more: Any) -> None:
        more["headers"] = {"Authorization": f"Bearer {key}"} | more.get("headers", {})
        case = document[path][method].Case(path_parameters={"video_id": video_id} if video_id else {}, **more)
        answer = case.call()
        assert answer.status_code == status, answer.text
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])

    for params, status in (({}, 202), ({"dry_run": "true"}, 200)):
        answer = submit(params=params)
        assert answer.status_code == status
        document["/v1/videos"]["POST"].validate_response(answer)
    completed, expired = (submit(seed=str(seed)).json()["id"] for seed in (1, 2))
    drain()
    queued = submit(seed="3").json()["id"]
    with database.write() as session:
        session.get_one(Video, expired).expires_at = 1.0
    expire(database, folders, 3600)

    content, report, events = (f"/v1/videos/{{video_id}}/{each}" for each in ("content", "report", "events"))
    etag = client.get(f"/v1/videos/{completed}/content").headers["etag"]
    for headers, status in (
        ({}, 200),
        ({"range": "bytes=0-9"}, 206),
        ({"if-none-match": etag}, 304),
        ({"range": "lines=0-9"}, 400),
        ({"range": "bytes=99999999-"}, 416),
    ):
        ask("GET", content, status, completed, headers=headers)
    for path in (content, report):
        ask("GET", path, 409, queued)
        ask("GET", path, 404, expired)
    for form in ("json", "html"):
        ask("GET", report, 200, completed, query={"format": form})
    ask("GET", events, 200, completed)
    ask("GET", events, 204, expired)
    for each in (queued, completed, expired):
        ask("GET", "/v1/videos/{video_id}", 200, each)
    remix = {"body": {"prompt": "a cat"}, "media_type": "application/json"}
    ask("POST", "/v1/videos/{video_id}/remix", 202, completed, **remix)
    ask("POST", "/v1/videos/{video_id}/remix", 409, expired, **remix)
    ask("DELETE", "/v1/videos/{video_id}", 409, queued)
    for each in (queued, completed):
        ask("POST", "/v1/videos/{video_id}/cancel", 200, each)
    ask("DELETE", "/v1/videos/{video_id}", 200, queued)
