"""The OpenAPI document is true: whatever fits it, and whatever does not, is answered as it says."""

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig  # noqa: F401 - the version is checked by its import

from tests.apps.server.fixtures import Submit

pytestmark = pytest.mark.serve

EXAMPLES = 12


@pytest.fixture
def document(app: FastAPI, client: Any, submit: Submit) -> Any:
    submit()
    return schemathesis.openapi.from_asgi("/openapi.json", app)


schema = schemathesis.pytest.from_fixture("document").exclude(path_regex="/events$")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_the_document_says(case: schemathesis.Case, key: str) -> None:
    case.call_and_validate(headers={"authorization": f"Bearer {key}"})
