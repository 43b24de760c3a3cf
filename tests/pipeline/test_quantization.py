"""Whole edits with tiny models whose weights are int8, as a caller makes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenflow
from tests.families import PIPELINES
from tests.tiny import moving_square, save_tiny_controlnet, save_tiny_setup
from tests.tiny_flux import save_tiny_flux_controlnet, tiny_flux_pipeline
from tests.tiny_sana import save_tiny_sana_controlnet
from tokenflow.models.loading import load_model
from tokenflow.modes.source import InvertedClip
from tokenflow.video import Video

CONTROLNETS = {
    "sd": save_tiny_controlnet,
    "sana": save_tiny_sana_controlnet,
    "flux": lambda folder: save_tiny_flux_controlnet(folder, num_mode=2),
}
INSTRUCTED = ("flux", "flux2")
CLIP = Video(moving_square(4, height=32, width=32), rate=1)


@pytest.fixture(scope="module", params=PIPELINES)
def source(request: Any, families: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> InvertedClip:
    folder = families[request.param]
    if request.param == "flux":  # one that takes instructions
        folder = tmp_path_factory.mktemp("models") / "kontext"
        tiny_flux_pipeline(kontext=True).save_pretrained(folder)
    model = load_model(folder, device="cpu", dtype="float32", quantization="int8", text_encoder_quantization="int8")
    return tokenflow.invert(CLIP, model, "a dog on grass", steps=3, size=32)


def test_every_mode_edits_a_clip(source: InvertedClip, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    family = request.node.callspec.params["source"]
    modes: list[Any] = [tokenflow.PnP(), tokenflow.SDEdit(strength=0.7), tokenflow.FlowEdit()]
    if family in CONTROLNETS:
        modes.append(tokenflow.ControlNet(path=str(CONTROLNETS[family](tmp_path))))
    if family in INSTRUCTED:
        modes.append(tokenflow.Instruct())
    edits = [tokenflow.edit(source, "a golden tiger", mode=mode, steps=3).decoded for mode in modes]
    assert all(edit.shape == CLIP.frames.shape and edit.std() > 0 for edit in edits)
    assert len({edit.tobytes() for edit in edits}) == len(modes)


def test_the_report_says_the_size_and_the_quantisation(tmp_path: Path) -> None:
    config = save_tiny_setup(tmp_path, 3, 2)
    full, small = (
        tokenflow.run(tokenflow.load_config(config, ["model.dtype=float32", f"output.dir={tmp_path / each}", *more]))
        for each, more in {"full": [], "small": ["model.quantization=int8"]}.items()
    )
    assert full.report["model"]["quantization"] is None
    assert small.report["model"]["quantization"] == "int8"
    assert 0 < small.report["model"]["weights_mb"] < full.report["model"]["weights_mb"]
    assert small.page is not None
    assert "int8" in small.page.read_text(encoding="utf-8")
    assert not np.array_equal(full.frames, small.frames)
