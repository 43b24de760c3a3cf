"""What the folders promise: one direction of imports, a docstring a module, layers' names only behind models/."""

import ast
from graphlib import CycleError, TopologicalSorter
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
    "regions",
    "metrics",
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


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(code: str, known: set[str]) -> set[str]:
    """The known modules that some code imports, wherever it does."""
    modules = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            modules |= {name if name in known else node.module for name in within}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules & known


def cycle(codes: dict[str, str]) -> list[str]:
    """Modules of which each is imported by the next, the last again by the first; empty if there are none."""
    try:
        TopologicalSorter({name: imported_modules(code, set(codes)) for name, code in codes.items()}).prepare()
    except CycleError as error:
        return error.args[1]
    return []


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


@pytest.mark.parametrize("name", ORDER)
def test_no_files_of_a_room_import_each_other_in_a_circle(name: str) -> None:
    assert not cycle({module_name(path): path.read_text(encoding="utf-8") for path in MODULES if room(path) == name})


def test_a_circle_of_imports_is_found() -> None:
    codes = {
        "a.b": "from a import c",
        "a.c": "def late():\n    from a.d import D",
        "a.d": "import a.b",
        "a": "import a.b",
    }
    assert set(cycle(codes)) == {"a.b", "a.c", "a.d"}
    assert not cycle(codes | {"a.d": "import a"} | {"a": ""})


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
