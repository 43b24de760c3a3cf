"""What `tokenflow models` prints: published checkpoints, and which of them this machine holds."""

import torch

from tokenflow.models.presets import PRESETS, Preset

HEADER = ("name", "size", "steps", "guidance", "memory", "int8", "int4", "at least", "licence", "Hub id")

EVERYTHING, SOMEHOW, NOT = "✓", "~", " "


def models_lines(device_bytes: int | None) -> list[str]:
    """A table, and what its marks mean.

    Args:
        device_bytes: memory of the device that models would work on; None if there is no GPU.
    """
    rows = [HEADER, *(row(preset) for preset in PRESETS)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    marks = [" ", *(mark(preset, device_bytes) for preset in PRESETS)]
    table = [
        f"{sign} {'  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))}".rstrip()
        for sign, row in zip(marks, rows, strict=True)
    ]
    return [*table, "", *_explanation(device_bytes)]


def mark(preset: Preset, device_bytes: int | None) -> str:
    """Whether an edit fits on a device: with everything on it in 16 bits, quantised or with the settings that save
    memory or both, or not at all."""
    if device_bytes is None:
        return NOT
    if preset.memory() <= device_bytes:
        return EVERYTHING
    return SOMEHOW if preset.least_memory("int4") <= device_bytes else NOT


def device_memory() -> int | None:
    """Bytes of the GPU that `model.device: auto` takes; None without one."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return torch.mps.recommended_max_memory() if torch.backends.mps.is_available() else None


def row(preset: Preset) -> tuple[str, ...]:
    """The cells of a model's line, as in `HEADER`."""
    guidance = "none" if preset.guidance is None else f"{preset.guidance:g}"
    counts = (preset.memory(), preset.memory("int8"), preset.memory("int4"), preset.least_memory())
    memory = (f"{count / 1e9:.0f} GB" for count in counts)
    side = str(preset.network.side)
    return preset.name, side, str(preset.steps), guidance, *memory, preset.licence, preset.path


def _explanation(device_bytes: int | None) -> list[str]:
    saving = "model.offload=true edit.keyframe_window=2 edit.kept_features=main_memory and batch sizes of 1"
    lines = [
        "memory: estimated for an edit at the native size, with everything on the device (docs/models.md)",
        "int8, int4: the same with model.quantization and model.text_encoder_quantization set to these; fp8 takes as "
        "much as int8, nvfp4 no more than int4 (docs/quantization.md)",
        f"at least: as memory, with {saving}",
    ]
    if device_bytes is None:
        return [*lines, "this machine has no GPU: models work on its CPU, in main memory"]
    gpu = f"this machine's GPU ({device_bytes / 1e9:.0f} GB)"
    return [*lines, f"{EVERYTHING} fits on {gpu}, {SOMEHOW} quantised, with those settings, or both"]
