"""The documentation and the package are free of certain idioms, and the check finds them."""

from pathlib import Path

import pytest

from tools.check_english import ROOT, default_files, find

UNMERGED: set[str] = set()
"""Folders of the package whose wording is revised on another branch."""


def is_checked(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return parts[0] != "tokenflow" or parts[1] not in UNMERGED


@pytest.mark.parametrize("path", [*filter(is_checked, default_files())], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_none_of_the_idioms(path: Path) -> None:
    assert not [str(finding) for finding in find(path)]


@pytest.mark.parametrize(
    ("text", "idiom"),
    [
        ("two network calls a frame", "'a' for 'per'"),
        ("Calls  a\nstep", "'a' for 'per'"),
        ("it takes 12 ms a frame", "'a' for 'per'"),
        ("# 12 frames a\n# second", "'a' for 'per'"),
        ("a value is no number", "'is no'"),
        ("frames are\n    # no keyframes", "'is no'"),
        ("Knows no model", "'knows no'"),
        ("it knows nothing of files", "'knows no'"),
        ("somebody else's", "'somebody'"),
        ("nobody reads it", "'somebody'"),
        ("drawn anew", "'anew'"),
        ("it may be that of another", "'be that'"),
    ],
)
def test_an_idiom_is_found(text: str, idiom: str, tmp_path: Path) -> None:
    file = tmp_path / "text.md"
    file.write_text(f"# Title\n\n{text}\n", encoding="utf-8")
    assert [finding.idiom for finding in find(file)] == [idiom]


@pytest.mark.parametrize(
    "text",
    [
        "calls per frame",
        "a frame is a keyframe",
        "each time a frame is decoded",
        "in the steps a mode adds nothing",
        "There is no clip at the given path",
        "there are\nno frames",
        "the lock is no longer held",
        "it knows drawn scenes",
    ],
)
def test_plain_english_is_not(text: str, tmp_path: Path) -> None:
    file = tmp_path / "text.md"
    file.write_text(text, encoding="utf-8")
    assert not list(find(file))


def test_a_finding_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "text.md"
    file.write_text("first\n\nkeyframes drawn anew\n", encoding="utf-8")
    assert [str(finding) for finding in find(file)] == [f"{file}:3: 'anew': anew"]
