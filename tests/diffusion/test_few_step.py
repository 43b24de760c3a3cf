"""Which checkpoints sample in few steps, by the schedulers that lie beside their weights."""

from typing import Any

import pytest
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    SCMScheduler,
    TCDScheduler,
)

from tokenflow.diffusion.few_step import FewStep, few_step_of, is_turbo

TRAILING = {"timestep_spacing": "trailing"}

MANY: dict[str, Any] = {
    "Stable Diffusion 1.5": PNDMScheduler(skip_prk_steps=True),
    "Stable Diffusion XL": EulerDiscreteScheduler(timestep_spacing="leading"),
    "zero terminal SNR": DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction", **TRAILING),
    "zero terminal SNR, Euler": EulerDiscreteScheduler(rescale_betas_zero_snr=True, **TRAILING),
    "v-prediction, Euler": EulerDiscreteScheduler(prediction_type="v_prediction", **TRAILING),
}

FEW: dict[str, tuple[Any, FewStep]] = {
    "SANA-Sprint": (SCMScheduler(), FewStep(2, renoises=True)),
    "LCM": (LCMScheduler(), FewStep(4, renoises=True)),
    "TCD": (TCDScheduler(), FewStep(4, renoises=False)),
    "SD-Turbo": (EulerDiscreteScheduler(**TRAILING), FewStep(4, renoises=False, max_scale=1)),
    "SDXL-Turbo": (EulerAncestralDiscreteScheduler(**TRAILING), FewStep(4, renoises=False, max_scale=1)),
}


def found(scheduler: Any, asked: bool | None = None) -> FewStep | None:
    return few_step_of(type(scheduler).__name__, scheduler.config, asked)


@pytest.mark.parametrize("name", MANY)
def test_a_model_of_many_steps_is_not_taken_for_one_of_few_unless_asked(name: str) -> None:
    assert found(MANY[name]) is None
    assert found(MANY[name], True) == FewStep(4, renoises=False)


@pytest.mark.parametrize("name", FEW)
def test_a_few_step_model_is_recognised_by_its_scheduler_unless_overridden(name: str) -> None:
    scheduler, expected = FEW[name]
    assert found(scheduler) == expected
    assert found(scheduler, True) == expected
    assert found(scheduler, False) is None
    assert is_turbo(type(scheduler).__name__, scheduler.config) == ("Turbo" in name)
