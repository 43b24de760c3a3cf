"""Messages of the library in the words of the nodes."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import OF_THE_LIBRARY, Nodes

import tokenflow
from tokenflow.metrics import verdict

LIBRARY = Path(tokenflow.__file__).parent

ROOMS = ("diffusion", "store/inversions.py", "models", "modes", "correspondence", "propagation", "regions", "pipeline")

OTHERS = ("job", "output", "seeds", "trial", "lora", "diffusers_pipeline", "disk_space")
"""Of the pipeline: what no node calls."""

NOT_IN_MEMORY = ("edit.keyframes.frames", "edit.references:", "clip.rate", "model.device", "model.dtype", "mode is ")
"""In messages about files that settings name, about the machine, and about arguments that no link can carry."""


@pytest.fixture(scope="module")
def wording(pack: ModuleType, nodes: Nodes) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.host.wording")


def messages() -> Iterator[str]:
    """The texts in the library that name settings, with … where values are put in."""
    files = [file for room in ROOMS for file in ([LIBRARY / room] if "." in room else (LIBRARY / room).rglob("*.py"))]
    for file in sorted(files):
        if file.stem in OTHERS or file.parent.name in OTHERS:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if id(node) in inner or not isinstance(node, ast.JoinedStr | ast.Constant):
                continue
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
            if " " in text and not text.startswith(NOT_IN_MEMORY) and OF_THE_LIBRARY.search(text):
                yield text


def test_no_message_that_a_node_can_show_speaks_of_yaml_python_or_commands(wording: ModuleType) -> None:
    found = list(messages())
    assert len(found) > 50
    left = [text for text in map(wording.in_words_of_nodes, found) if OF_THE_LIBRARY.search(text)]
    assert [text for text in left if not any(each in text for each in NOT_IN_MEMORY)] == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "edit.keyframe_interval is 9; expected 1 to 8, or null, which adapts to the clip",
            "keyframe_interval of Edit is",
        ),
        ("set clip.size to less, or to a box [width, height]", "set size of Invert to less"),
        (
            "set clip.cuts to the frames, or to [] for one shot",
            "cuts of Invert to the frames, or leave it empty for one",
        ),
        ("the clip, or a clip.prompt that describes it", "the clip, or a prompt of Invert that"),
        ("set edit.controlnet.path to one trained for this model", "set path of Mode: ControlNet to one trained"),
        ("set model.prediction_type to null", "set prediction_type of Load Model to auto"),
        ("set model.few_step to false", "set few_step of Load Model to no"),
        ("try edit.mode=sdedit", "try Mode: SDEdit"),
        ("edit the whole frame: edit.regions=[]", "edit the whole frame: link no Region"),
    ],
)
def test_settings_are_named_by_their_nodes(said: str, expected: str, wording: ModuleType) -> None:
    assert expected in wording.in_words_of_nodes(said)


@pytest.mark.parametrize(
    "path", ["model.safetensors", "model.vae.safetensors", "/home/edit.steps/model.base", r"C:\clip.size\edit.seed"]
)
def test_paths_stay_as_they_are(path: str, wording: ModuleType) -> None:
    assert (
        wording.in_words_of_nodes(f"the file {path!r} was not found; check it")
        == f"the file {path!r} was not found; check it"
    )


def test_every_remedy_of_a_verdict_names_widgets_and_nodes(wording: ModuleType) -> None:
    remedies = [*verdict.BOLDER.values(), *verdict.CLOSER.values()]
    for text in map(wording.in_words_of_nodes, remedies):
        assert not OF_THE_LIBRARY.search(text)
        assert not re.search(r"mode=", text)
