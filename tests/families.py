"""A tiny pipeline of each family, by the name that tests give it."""

from collections.abc import Callable
from typing import Any

from tests.tiny import tiny_pipeline, tiny_xl_pipeline
from tests.tiny_flux import tiny_flux2_pipeline, tiny_flux_pipeline
from tests.tiny_sana import tiny_sana_pipeline

PIPELINES: dict[str, Callable[[], Any]] = {
    "sd": tiny_pipeline,
    "xl": tiny_xl_pipeline,
    "sana": tiny_sana_pipeline,
    "flux": tiny_flux_pipeline,
    "flux2": tiny_flux2_pipeline,
}
