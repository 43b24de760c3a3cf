"""The benchmark of the service fails where the service has."""

from copy import deepcopy
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("psutil")

from benchmarks.serve import shortcomings

GOOD: dict[str, Any] = {
    "load": {"clients": 3, "server_errors": 0, "ended": {"completed": 3}},
    "faults": {"accepted": 2, "ended": {"completed": 2}},
    "credits": {"add_up": True},
}


def test_a_service_without_faults_passes() -> None:
    assert shortcomings(GOOD) == []


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("load", "server_errors", 1, "1 answers were a 5xx"),
        ("load", "ended", {"completed": 2, "failed": 1}, "of 3 edits under load not all were completed"),
        ("faults", "ended", {"completed": 1}, "of 2 edits under faults not all were completed"),
        ("credits", "add_up", False, "the credits do not add up"),
    ],
)
def test_each_fault_is_said(part: str, name: str, value: Any, message: str) -> None:
    found = deepcopy(GOOD)
    found[part][name] = value
    (wrong,) = shortcomings(found)
    assert message in wrong
