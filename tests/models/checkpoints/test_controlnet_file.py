"""ControlNets as people have them: folders in any variant, single files in either naming, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel
from safetensors.torch import load_file, save_file

from tests.models.checkpoints.original import contiguous, controlnet_weights, prefixed
from tests.tiny import level, save_tiny_controlnet, tiny_model, tiny_pipeline, tiny_unet, tiny_xl_pipeline
from tokenflow.errors import ModelError, ModelNotFoundError, TokenflowWarning
from tokenflow.models.loading import control_fingerprint
from tokenflow.models.stable_diffusion import StableDiffusion

LATENTS = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0))


def residuals(model: Any, path: Path) -> list[torch.Tensor]:
    """What a ControlNet gives for some images."""
    side = 8 * model.pixels_per_latent
    images = torch.rand(2, 3, side, side * 3 // 2, generator=torch.Generator().manual_seed(1))
    found = model.load_control(str(path))(LATENTS, level(500), model.condition("a dog"), images, 1.0)
    return [*found.skips, found.middle]


def assert_equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    for own, expected in zip(one, other, strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_controlnet(tmp_path / "controlnet")


def weights_of(folder: Path) -> Path:
    return folder / "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("variant", ["fp16", "bf16", "non_ema"])
def test_a_controlnet_in_one_variant_alone_is_loaded(variant: str, folder: Path, tmp_path: Path) -> None:
    expected = residuals(tiny_model(), folder)
    weights_of(folder).rename(folder / f"diffusion_pytorch_model.{variant}.safetensors")
    assert_equal(residuals(tiny_model(), folder), expected)


@pytest.mark.parametrize("name", ["controlnet.safetensors", "Control.SafeTensors"])
def test_a_controlnet_in_one_file_with_diffusers_names_is_loaded(name: str, folder: Path, tmp_path: Path) -> None:
    file = Path(weights_of(folder).rename(tmp_path / name))
    save_tiny_controlnet(folder)
    assert_equal(residuals(tiny_model(), file), residuals(tiny_model(), folder))
    assert control_fingerprint(str(file)) != control_fingerprint(str(folder))


@pytest.mark.parametrize("prefix", ["", "control_model."])
def test_a_controlnet_in_one_file_with_the_original_names_is_loaded(prefix: str, tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    torch.manual_seed(1)
    pipeline.register_modules(
        vae=AutoencoderKL(
            block_out_channels=(8,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            scaling_factor=1.0,
        )
    )
    network = ControlNetModel.from_unet(tiny_unet(), conditioning_embedding_out_channels=(8, 8, 12, 16))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    network.save_pretrained(tmp_path / "folder")
    save_file(contiguous(prefixed(prefix, controlnet_weights(network))), tmp_path / "file.safetensors")
    model = StableDiffusion(pipeline)
    assert_equal(residuals(model, tmp_path / "file.safetensors"), residuals(model, tmp_path / "folder"))


def test_a_controlnet_of_sdxl_in_one_file_is_loaded(tmp_path: Path) -> None:
    model = StableDiffusion(tiny_xl_pipeline())
    torch.manual_seed(3)
    network = ControlNetModel.from_unet(model.network, conditioning_embedding_out_channels=(8, 16))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    network.save_pretrained(tmp_path / "folder")
    assert_equal(
        residuals(model, weights_of(tmp_path / "folder")),
        residuals(StableDiffusion(tiny_xl_pipeline()), tmp_path / "folder"),
    )


def without(file: Path, *names: str, **added: torch.Tensor) -> None:
    weights = {name: weight for name, weight in load_file(file).items() if name not in names}
    save_file(weights | added, file, {"format": "pt"})


@pytest.mark.parametrize("as_file", [False, True])
def test_a_controlnet_that_lacks_a_weight_is_refused(as_file: bool, folder: Path) -> None:
    without(weights_of(folder), "controlnet_mid_block.bias")
    with pytest.raises(ModelError, match=r"lacks 1 of .*, such as controlnet_mid_block\.bias; download it again"):
        tiny_model().load_control(str(weights_of(folder) if as_file else folder))


@pytest.mark.parametrize("as_file", [False, True])
def test_a_union_under_another_class_name_is_refused_by_its_surplus_weights(as_file: bool, folder: Path) -> None:
    without(weights_of(folder), **{"task_embedding": torch.zeros(6, 16), "spatial_ch_projs.weight": torch.zeros(2)})
    said = r"has 2 weights that one for a single kind of image has not, such as spatial_ch_projs.*a union of several"
    with pytest.raises(ModelError, match=said):
        tiny_model().load_control(str(weights_of(folder) if as_file else folder))


@pytest.mark.parametrize("class_name", ["FluxControlNetModel", "MultiAdapter"])
def test_networks_of_another_class_are_named(class_name: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": class_name}))
    with pytest.raises(ModelError, match=f"is a {class_name}; expected a ControlNetModel"):
        tiny_model().load_control(str(folder))


def test_pickled_weights_are_refused_and_never_opened(folder: Path) -> None:
    weights_of(folder).rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only has the pickled diffusion_pytorch_model\.bin, which is refused"):
        tiny_model().load_control(str(folder))


def test_files_that_are_no_controlnet_are_refused(tmp_path: Path) -> None:
    tiny_unet().save_pretrained(tmp_path / "unet")
    control_lora = {"lora_controlnet": torch.zeros(1), "input_blocks.0.0.up": torch.zeros(1)}
    save_file(control_lora, tmp_path / "lora.safetensors")
    for file in (weights_of(tmp_path / "unet"), tmp_path / "lora.safetensors"):
        with pytest.raises(ModelError, match="holds something other than a ControlNet"):
            tiny_model().load_control(str(file))
    with pytest.raises(ModelNotFoundError, match=r"there is no model file .*; set edit\.controlnet\.path"):
        tiny_model().load_control(str(tmp_path / "none.safetensors"))


def test_a_file_for_another_model_is_refused_in_one_line(folder: Path) -> None:
    for model in (tiny_model(levels=4), StableDiffusion(tiny_xl_pipeline())):
        with pytest.raises(ModelError, match=r"trained for (another|this) model") as caught:
            model.load_control(str(weights_of(folder)))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("control_v11f1p_sd15_depth", "set edit.controlnet.detector to depth"),
        ("controlnet-openpose-sdxl-1.0", "set edit.controlnet.detector to openpose"),
        ("control_v11p_sd15_seg", "set edit.controlnet.path to one"),
    ],
)
def test_a_controlnet_named_after_other_images_than_it_gets_is_told(
    name: str, remedy: str, folder: Path, tmp_path: Path
) -> None:
    folder.rename(tmp_path / name)
    with pytest.warns(TokenflowWarning, match=rf"is named after .* and will be given canny images; {remedy}"):
        tiny_model().load_control(str(tmp_path / name))


def test_a_controlnet_named_after_its_detector_is_taken_without_a_word(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "control_v11f1p_sd15_depth")
    tiny_model().load_control(str(tmp_path / "control_v11f1p_sd15_depth"), "depth")


@pytest.mark.parametrize("name", ["control_v11p_sd15_canny", "controlnet-canny-sdxl-1.0", "depth-and-canny"])
def test_a_controlnet_for_edges_is_taken_without_a_word(name: str, folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / name)
    tiny_model().load_control(str(tmp_path / name))
