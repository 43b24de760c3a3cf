"""What was painted follows the clip: to its number in another part, or it is gone, and either is said."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from tests.apps.web.conftest import FRAMES
from tokenflow.apps.web.form import EDITED_FRAMES, to_clip
from tokenflow.apps.web.page import build
from tokenflow.apps.web.painted import keep_painted, painted_on, what_was_painted
from tokenflow.apps.web.site import Site

REQUEST: Any = SimpleNamespace(username="ann")

Follow = Callable[..., tuple[str, str]]


@pytest.fixture
def painted(site: Site) -> str:
    """What the field holds for a stroke on the third frame."""
    return keep_painted([Image.new("RGBA", (24, 16), (255, 0, 255, 153))], 2, site.space)


def functions(site: Site) -> dict[str, Callable[..., Any]]:
    return {each.fn.__name__: each.fn for each in build(site).fns.values() if each.fn is not None}


@pytest.fixture
def follow(site: Site, values: dict[str, str], clip: str) -> Follow:
    """The painted part after some settings have changed, and what is said."""
    follow_part = functions(site)["follow_part"]

    def follow(text: str, kind: str = "painted", **changed: str) -> tuple[str, str]:
        form = values | {f"clip.{name}": value for name, value in changed.items()}
        of_clip = [text for key, text in form.items() if key.startswith("clip.")]
        *_, painted, _, said = follow_part(REQUEST, to_clip(values, clip), kind, text, "0", clip, *of_clip)
        return painted, said

    return follow


@pytest.mark.parametrize("kind", ["painted", "words"])
def test_a_painted_frame_keeps_its_mask_under_its_new_number(kind: str, follow: Follow, painted: str) -> None:
    held = what_was_painted(painted)
    assert held is not None
    text, said = follow(painted, kind, every="2")
    assert text == painted_on(held[0], 1)
    assert "is frame 1 of this part" in said


@pytest.mark.parametrize("changed", [{"frames": "2"}, {"every": str(FRAMES - 1)}, {"start": "0.3"}])
def test_what_was_painted_on_a_frame_outside_of_the_part_is_gone(
    changed: dict[str, str], follow: Follow, painted: str
) -> None:
    text, said = follow(painted, **changed)
    assert text == ""
    assert "is gone: paint again" in said


def test_a_part_that_has_not_changed_leaves_everything(follow: Follow, painted: str) -> None:
    text, said = follow(painted, size="32")
    assert text == said == {"__type__": "update"}


def test_another_clip_does_away_with_what_was_made_for_the_one_before(site: Site, clip: str, tmp_path: Path) -> None:
    keep_clip = functions(site)["keep_clip"]
    kept, _, said, *left = keep_clip(REQUEST, clip, "another.mp4", "{mask: a.png, mask_frame: 0}", "", "frames")
    assert left == [""] * 3
    assert "the painted part, the edited frames" in said
    _, _, _, *left = keep_clip(REQUEST, clip, kept, "{mask: a.png, mask_frame: 0}", "", "")
    assert left == [{"__type__": "update"}] * 3


def test_edited_frames_are_told_to_have_other_numbers(site: Site) -> None:
    check = functions(site)["check_numbers"]
    assert "other frame numbers" in check("frames", ("", "", "", ""), "", "", "2", "")
    assert check("frames", ("", "", "2", ""), "", "", "2", "") == ""
    assert check("", ("", "", "", ""), "", "", "2", "") == ""
    assert EDITED_FRAMES in site.keys
