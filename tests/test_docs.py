"""The documentation refers to what exists: links, files, settings, commands, and the library's names."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import tokenflow
from tests.test_architecture import ORDER
from tokenflow.config import Config
from tokenflow.config.renamed import RENAMED_KEYS
from tokenflow.config.suggestions import all_keys

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "data" / "clips" / "README.md"]
SECTIONS = "clip|model|inversion|edit|output|metrics|trajectories"
SETTINGS = {*all_keys(Config), *RENAMED_KEYS}
OUTPUTS = (
    "benchmarks/results/gpu.json",
    "benchmarks/results/verdict.json",
    "outputs/",
    "runs/",
    "trajectories/",
    "masks/",
)
"""Folders of the user's that pages name as examples."""
MAPPINGS = ("edit.keyframes.frames.",)
"""Settings whose keys are the user's."""
MATRIX = {"clips", "edits", "words", "extends"}
"""Keys of files that are not settings."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


def code_spans(page: Path) -> list[str]:
    without_blocks = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", without_blocks)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def keys(content: Any, prefix: str = "") -> set[str]:
    """The dotted keys of nested settings, sections included."""
    if not isinstance(content, dict):
        return set()
    found = {f"{prefix}{key}" for key in content}
    return found.union(*(keys(value, f"{prefix}{key}.") for key, value in content.items()))


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        name, _, anchor = link.partition("#")
        if name.startswith("https:"):
            continue
        target = page.parent / name if name else page
        assert target.is_file(), f"there is nothing at {link}"
        assert not anchor or anchor in anchors(target), f"{name} has no heading #{anchor}"


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    for span in code_spans(page):
        is_path = re.fullmatch(r"[\w/.-]+(/|\.py)", span) or re.match(
            r"(tests|benchmarks|tools|configs|data)/\S+$", span
        )
        if is_path and not span.startswith(OUTPUTS):
            assert any((folder / span).exists() for folder in (ROOT, ROOT / "tokenflow")), f"there is no {span}"
    for name in re.findall(r"(?:configs|data)/[\w./-]*\w", "".join(blocks(page, ""))):
        assert (ROOT / name).exists(), f"there is no {name}"


@each_page
def test_settings_that_are_named_exist(page: Path) -> None:
    for text in (*code_spans(page), *blocks(page, "")):
        for key in re.findall(rf"(?<![\w./])((?:{SECTIONS})\.[a-z_.]*[a-z_])(?=[=:\s`]|$)", text):
            if not key.endswith((".md", ".mp4", ".yaml")):
                assert key in SETTINGS, f"there is no setting {key}"


@each_page
def test_yaml_has_settings_only(page: Path) -> None:
    for block in blocks(page, "yaml"):
        content = yaml.safe_load(block)
        found = {key for key in keys(content) if key.split(".")[0] not in MATRIX and not key.startswith(MAPPINGS)}
        assert found <= SETTINGS | set(SECTIONS.split("|")), f"{sorted(found - SETTINGS)} are not settings"


@each_page
def test_make_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    for text in (*code_spans(page), *blocks(page, "")):
        assert set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) <= targets


@each_page
def test_python_calls_the_library_as_it_is(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "tokenflow":
                assert node.attr in tokenflow.__all__
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("tokenflow."):
                called = eval(ast.unparse(node.func), {"tokenflow": tokenflow})
                names = {keyword.arg for keyword in node.keywords}
                assert names <= set(inspect.signature(called).parameters), ast.unparse(node)


def test_the_readme_starts_with_the_packages_own_example() -> None:
    example = blocks(ROOT / "README.md", "python")[0].partition("\n\n")[2].strip()
    assert example in inspect.cleandoc(tokenflow.__doc__ or "").replace("\n    ", "\n")


def test_the_rooms_are_listed_in_the_order_of_imports() -> None:
    rooms = re.findall(r"^\| `(\w+)(?:\.py|/)` \|", text_of(ROOT / "docs" / "architecture.md"), re.MULTILINE)
    assert rooms == ORDER
