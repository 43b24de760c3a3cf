"""ControlNets as people have them: folders in any variant, single files in either naming, and what is refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, ControlNetUnionModel
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
def test_surplus_weights_are_refused(as_file: bool, folder: Path) -> None:
    without(weights_of(folder), **{"extra.weight": torch.zeros(2)})
    with pytest.raises(ModelError, match=r"has 1 weight that an ordinary ControlNet does not have, such as extra"):
        tiny_model().load_control(str(weights_of(folder) if as_file else folder))


@pytest.fixture(scope="module")
def union(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A union of ControlNets for the tiny SDXL, under its own class name."""
    torch.manual_seed(3)
    plain = ControlNetModel.from_unet(tiny_xl_pipeline().unet, conditioning_embedding_out_channels=(8, 16))
    sizes = {"num_trans_channel": 16, "num_proj_channel": 16, "num_trans_layer": 2, "num_control_type": 8}
    network = ControlNetUnionModel.from_config({**plain.config, **sizes})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    folder = tmp_path_factory.mktemp("union")
    network.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("class_name", ["ControlNetModel", "ControlNetModel_Union", None])
def test_a_union_is_loaded_under_any_class_name_and_from_a_file(
    class_name: str | None, union: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(union, tmp_path / "other"))
    if class_name is not None:
        change(other, _class_name=class_name)
    path = weights_of(other) if class_name is None else other
    model = StableDiffusion(tiny_xl_pipeline())
    assert_equal(residuals(model, path), residuals(model, union))


def change(folder: Path, *left_out: str, **changes: Any) -> None:
    """Change the configuration of a ControlNet."""
    config = json.loads((folder / "config.json").read_text())
    kept = {name: value for name, value in config.items() if name not in left_out}
    (folder / "config.json").write_text(json.dumps(kept | changes))


@pytest.mark.parametrize("key", ["cross_attention_dim", "block_out_channels", "conditioning_embedding_out_channels"])
@pytest.mark.parametrize("null", [True, False])
def test_where_a_configuration_says_nothing_its_class_decides(key: str, null: bool, folder: Path) -> None:
    change(folder, key, **({key: None} if null else {}))
    with pytest.raises(ModelError, match=r"was trained for another model: its .* is"):
        tiny_model().load_control(str(folder))


def test_a_configuration_may_leave_out_what_its_class_has(folder: Path) -> None:
    expected = residuals(tiny_model(), folder)
    change(folder, "in_channels", "conditioning_channels")
    assert_equal(residuals(tiny_model(), folder), expected)


def test_a_controlnet_for_grey_images_is_refused(folder: Path) -> None:
    change(folder, conditioning_channels=1)
    with pytest.raises(ModelError, match=r"its number of channels of an image is 1, the model's is 3"):
        tiny_model().load_control(str(folder))


def test_loading_a_file_prints_no_advice(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pipeline = tiny_pipeline()
    pipeline.unet.to(torch.float16)
    StableDiffusion(pipeline).load_control(str(weights_of(folder)))
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


@pytest.mark.parametrize("class_name", ["FluxControlNetModel", "MultiAdapter", ["a", "b"]])
def test_networks_of_another_class_are_named(class_name: Any, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": class_name}))
    with pytest.raises(
        ModelError, match=rf"the class of .* is {re.escape(str(class_name))}; expected one of ControlNetModel, "
    ):
        tiny_model().load_control(str(folder))


def test_pickled_weights_are_refused_and_never_opened(folder: Path) -> None:
    weights_of(folder).rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"has only diffusion_pytorch_model\.bin, a pickle, which tokenflow never opens; download or"
    ):
        tiny_model().load_control(str(folder))


def test_files_that_are_no_controlnet_are_refused(tmp_path: Path) -> None:
    tiny_unet().save_pretrained(tmp_path / "unet")
    control_lora = {"lora_controlnet": torch.zeros(1), "input_blocks.0.0.up": torch.zeros(1)}
    save_file(control_lora, tmp_path / "lora.safetensors")
    save_file({f"adapter.body.{name}.weight": torch.zeros(1) for name in "abcd"}, tmp_path / "t2i.safetensors")
    for file, kind in (
        (weights_of(tmp_path / "unet"), "a UNet alone"),
        (tmp_path / "lora.safetensors", "a Control-LoRA"),
        (tmp_path / "t2i.safetensors", "a T2I-Adapter.*: set edit.controlnet.path to its folder or Hub id"),
    ):
        with pytest.raises(ModelError, match=f"is {kind}.*; expected a ControlNet: set"):
            tiny_model().load_control(str(file))
    with pytest.raises(ModelNotFoundError, match=r"the model file .* was not found.*; set edit\.controlnet\.path"):
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


@pytest.mark.parametrize("name", ["control_v11p_sd15_canny", "controlnet-canny-sdxl-1.0"])
def test_a_controlnet_for_edges_is_taken_without_a_word(name: str, folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / name)
    tiny_model().load_control(str(tmp_path / name))
