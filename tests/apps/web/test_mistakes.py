"""Each error is shown beside the field that caused it."""

import pytest

from tokenflow.apps.exit_status import OUT_OF_MEMORY
from tokenflow.apps.web.mistakes import A_BUG, ELSEWHERE, by_field
from tokenflow.errors import ClipNotFoundError, ConfigError, ModelError

KEYS = ["clip.path", "clip.prompt", "edit.steps", "edit.keyframe_interval", "model.path"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ClipNotFoundError("gone"), {"clip.path": "gone"}),
        (ModelError("broken"), {"model.path": "broken"}),
        (
            ConfigError("edit.keyframe_interval is 9 but the clip has 4 frames"),
            {"edit.keyframe_interval": "edit.keyframe_interval is 9 but the clip has 4 frames"},
        ),
        (
            ConfigError("all", ["edit.steps: a", "edit.steps: b", "other.key: c"]),
            {"edit.steps": "a; b", ELSEWHERE: "other.key: c"},
        ),
        (ConfigError("nothing in particular"), {ELSEWHERE: "nothing in particular"}),
        (MemoryError(), {ELSEWHERE: OUT_OF_MEMORY}),
        (ZeroDivisionError(), {ELSEWHERE: A_BUG}),
    ],
)
def test_an_error_is_about_a_field(error: Exception, expected: dict[str, str]) -> None:
    assert by_field(error, KEYS) == expected
