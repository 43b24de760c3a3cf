"""What the names of ControlNets tell of the images that they were trained on."""

import warnings

import pytest

from tokenflow.errors import TokenflowWarning
from tokenflow.models.checkpoints.controlnet_name import notice_other_images


@pytest.mark.parametrize(
    "path",
    [
        "/models/control_v11f1p_sd15_depth",
        "/models/control_v11f1p_sd15_depth/diffusion_pytorch_model.safetensors",
        "/cache/models--lllyasviel--control_v11f1p_sd15_depth/snapshots/0123abc",
        "lllyasviel/control_v11f1p_sd15_depth",
        "owner/repository/CN_Depth.safetensors",
        "controlnet-zoe-depthmap",
    ],
)
def test_a_name_of_depth_is_told_for_edges_and_taken_for_depth(path: str) -> None:
    with pytest.warns(TokenflowWarning, match=r"named after depth .* set edit\.controlnet\.detector to depth"):
        notice_other_images(path, "canny")
    assert_silent(path, "depth")


@pytest.mark.parametrize(
    ("name", "found", "remedy"),
    [
        ("controlnet-normals", "normal", "detector to normal"),
        ("controlnet-openposexl2", "openpose", "detector to openpose"),
        ("DWPose-controlnet", "openpose", "detector to openpose"),
        ("control_v11e_sd15_ip2p", "ip2p", r"set edit\.controlnet\.path to one"),
        ("t2iadapter_color", "color", r"set edit\.controlnet\.path"),
        ("controlnet-recolor", "recolor", r"set edit\.controlnet\.path"),
        ("control_sd15_mediapipe_face", "face and mediapipe", r"set edit\.controlnet\.path"),
        ("QRPattern", "qr", r"set edit\.controlnet\.path"),
        ("Control_Canny2Depth", "canny and depth", "make sure that it was trained on canny images"),
    ],
)
def test_other_names_are_told_for_edges(name: str, found: str, remedy: str) -> None:
    with pytest.warns(TokenflowWarning, match=rf"named after {found} and will be given canny images; .*{remedy}"):
        notice_other_images(name, "canny")


@pytest.mark.parametrize(
    "path",
    [
        "control_v11p_sd15_canny",
        "controlnet-canny-sdxl-1.0",
        "/depth/control_v11p_sd15_canny",
        "/depth/control_v11p_sd15_canny.safetensors",
        "controlnet-union-sdxl-1.0-depth",
        "controlnet",
        "interface-textile",
    ],
)
def test_names_of_edges_and_of_nothing_are_taken_without_a_word(path: str) -> None:
    assert_silent(path, "canny")


def assert_silent(path: str, detector: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notice_other_images(path, detector)
