import pytest
import torch

from tokenflow.errors import ConfigError
from tokenflow.models.placement import choose_device, choose_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["toaster", "cuda:99", ""])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.device is .*expected auto, cpu, cuda, cuda:N or mps") as caught:
        choose_device(name)
    assert "\n" not in str(caught.value)


def test_devices_and_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == CPU
    for capabilities, expected in (
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capabilities=capabilities: capabilities)
        assert choose_dtype("auto", CPU) == expected
        assert choose_dtype("float32", CPU) == torch.float32
    assert choose_dtype("auto", torch.device("cuda")) == torch.float16
    assert choose_dtype("auto", torch.device("mps")) == torch.float32
    assert choose_dtype("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(ConfigError, match=r"model\.dtype is 'int8'; expected auto, float32"):
        choose_dtype("int8", CPU)
