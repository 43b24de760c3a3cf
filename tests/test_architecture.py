"""What the folders promise: one direction of imports, a docstring a module, layers' names only behind models/."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tokenflow"
ORDER = [
    "errors",
    "events",
    "config",
    "diffusion",
    "store",
    "video",
    "models",
    "modes",
    "correspondence",
    "propagation",
    "metrics",
    "profiling",
    "report",
    "pipeline",
    "batch",
    "apps",
]
"""A file imports only from files above it, and from its own folder."""

FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [path for path in FILES if path not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py")]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relative to itself; say from where"
            names = [node.module] if node.module != "tokenflow" else [f"tokenflow.{each.name}" for each in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        # `import tokenflow` alone is the whole package, which only what starts it may ask for.
        parts = [name.split(".") for name in names if name and name.split(".")[0] == "tokenflow"]
        rooms |= {part[1] if len(part) > 1 else "apps" for part in parts}
    return rooms


def opens_text(call: ast.Call) -> bool:
    """Whether a call opens, reads or writes a file as text."""
    called = ast.unparse(call.func)
    if called.endswith((".read_text", ".write_text")):
        return True
    opens_files = called.split(".")[-1] == "open" and called not in ("av.open", "os.open", "Image.open")
    modes = [each.value for each in call.args if isinstance(each, ast.Constant)]
    return opens_files and not any("b" in mode for mode in modes)


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room(path) for path in MODULES} == set(ORDER)


def test_the_packages_root_is_small_enough_to_take_in_at_a_glance() -> None:
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 18


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_above(path: Path) -> None:
    own = ORDER.index(room(path))
    later = {name for name in imported_rooms(path) if ORDER.index(name) > own}
    assert not later, f"{path.name} imports {later} from below"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "path", [path for path in MODULES if room(path) != "models"], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_only_models_names_layers_of_a_network(path: Path) -> None:
    text = path.read_text()
    assert not [name for name in ("up_blocks", "down_blocks", "mid_block", "resnets", "attn1") if name in text]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_text_is_read_and_written_as_utf8_wherever_it_runs(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    for call in filter(opens_text, calls):
        encodings = [each.value.value for each in call.keywords if each.arg == "encoding"]
        assert encodings == ["utf-8"], f"{path.name}:{call.lineno} leaves the encoding to the system"
