"""Published checkpoints by short name: what they are, how they sample, and the memory that they need."""

from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from tokenflow.diffusion.batches import image_batches

BYTES = 2
"""Of a weight or an activation, in float16 or bfloat16."""

ACTIVATIONS = 14
"""Numbers per token and channel while a block of a transformer runs: queries, keys, values and attention (4), the
inside of its feed-forward before and after the activation (8), and what enters and leaves the block (2)."""

KEYFRAMES, FEW_KEYFRAMES = 8, 2
"""That go through the network at once: by default, and where memory is short."""

WINDOW = 8
"""Keyframes of the passes of UNets that were counted."""

HALF, FULL = 2_100, 5_500
"""Bytes of an autoencoder's activations per pixel of a frame, in 16 and in 32 bits: docs/small_cards.md, from peaks on
a CPU of Stable Diffusion 1.5 (4.4 GB for 8 frames of 512×512) and of XL (5.8 GB for one of 1024×1024)."""


@dataclass(frozen=True)
class Weights:
    """Of a network.

    Attributes:
        full: millions of them.
        int8, int4: millions of weights in 16 bits that take as much as they do in these kinds of quantisation.
    """

    full: float
    int8: float
    int4: float

    def bytes(self, kind: str | None = None) -> int:
        """In 16 bits, or in a kind."""
        return round(BYTES * 1e6 * getattr(self, kind or "full"))


@dataclass(frozen=True)
class Network:
    """Sizes of a checkpoint's networks.

    Attributes:
        denoiser: its UNet or transformer.
        text_encoders: each of them.
        autoencoder: millions of weights.
        width: channels of a token at its finest attention.
        tokens: per frame at its native size, with those of the text where it joins them.
        layers: of attention whose features are kept.
        side: native size, in pixels along each side.
        decoding: bytes of the autoencoder's activations per pixel of a frame.
        counted_pass: bytes of a pass of `WINDOW` keyframes, of UNets, whose residual blocks hold more than attention
            (benchmarks/peak_memory.py); None for transformers.
    """

    denoiser: Weights
    text_encoders: tuple[Weights, ...]
    autoencoder: float
    width: int
    tokens: int
    layers: int
    side: int
    decoding: int = HALF
    counted_pass: float | None = None


@dataclass(frozen=True)
class Preset:
    """A published checkpoint.

    Attributes:
        name: its short name, which `model.path` takes.
        path: Hub id.
        licence: of its weights.
        network: its sizes.
        steps: of sampling, as in its diffusers pipeline or its authors' examples.
        guidance: scale, likewise; None where it has none.
        branches: in a network call with guidance.
    """

    name: str
    path: str
    licence: str
    network: Network
    steps: int
    guidance: float | None
    branches: int

    def memory(self, kind: str | None = None) -> int:
        """Bytes on the device that an edit takes with everything on it, at the native size (docs/models.md).

        Args:
            kind: of quantisation of denoiser and text encoders, `int8` or `int4`; None for 16 bits.
        """
        network = self.network
        weights = sum(each.bytes(kind) for each in (network.denoiser, *network.text_encoders))
        features = KEYFRAMES * network.layers * self._sequence
        predicting = network.counted_pass or KEYFRAMES * self._activations + features
        decoded = len(next(image_batches(KEYFRAMES, KEYFRAMES, (network.side, network.side))))
        return weights + self._autoencoder + round(max(predicting, decoded * self._decoding))

    def least_memory(self, kind: str | None = None) -> int:
        """The same with `model.offload`, a window of two keyframes, features in main memory, and batches of one."""
        network = self.network
        of_keyframe = self._activations if network.counted_pass is None else network.counted_pass / WINDOW
        denoising = network.denoiser.bytes(kind) + round(FEW_KEYFRAMES * of_keyframe)
        text = (each.bytes(kind) for each in network.text_encoders)
        return max(denoising, self._autoencoder + self._decoding, *text)

    @property
    def _autoencoder(self) -> int:
        return round(BYTES * 1e6 * self.network.autoencoder)

    @property
    def _sequence(self) -> int:
        """Bytes of one number per token and channel of a frame."""
        return BYTES * self.network.tokens * self.network.width

    @property
    def _activations(self) -> int:
        return ACTIVATIONS * self.branches * self._sequence

    @property
    def _decoding(self) -> int:
        return self.network.decoding * self.network.side**2


# Weights were counted on diffusers' and transformers' classes with the published sizes, without any values
# (tests/models/test_presets.py).
_CLIP_L, _CLIP_G, _T5 = Weights(123.1, 80.6, 67.3), Weights(694.7, 380.1, 313.2), Weights(4762.3, 2447.1, 1434.1)
_GEMMA_2, _QWEN3_4B = Weights(2614.3, 1602.2, 1285.9), Weights(4022.5, 2205.8, 1557.0)
_QWEN3_8B = Weights(8190.7, 4717.9, 3198.5)
_KL, _DC = 83.8, 352.7

_SD_1_5 = Network(
    Weights(859.5, 738.4, 721.3), (_CLIP_L,), _KL, width=320, tokens=4096, layers=16, side=512, counted_pass=1.4 * 2**30
)
_SDXL = Network(
    Weights(2567.5, 1463.6, 1227.5),
    (_CLIP_L, _CLIP_G),
    _KL,
    width=640,
    tokens=4096,
    layers=70,
    side=1024,
    decoding=FULL,
    counted_pass=5.2 * 2**30,
)
_SANA_1_6 = Network(Weights(1604.5, 1203.1, 1111.3), (_GEMMA_2,), _DC, width=2240, tokens=1024, layers=20, side=1024)
_SANA_0_6 = replace(_SANA_1_6, denoiser=Weights(591.7, 443.1, 443.1), width=1152, layers=28)
_SANA_4_8 = replace(_SANA_1_6, denoiser=Weights(4721.8, 3517.6, 3242.4), layers=60)
_FLUX_1 = Network(
    Weights(11901.4, 5984.3, 3395.6), (_CLIP_L, _T5), _KL, width=3072, tokens=4096 + 512, layers=57, side=1024
)
_KLEIN_4 = Network(
    Weights(3875.5, 2035.3, 1230.2), (_QWEN3_4B,), _KL, width=3072, tokens=4096 + 512, layers=25, side=1024
)
_KLEIN_9 = Network(
    Weights(9078.6, 4716.5, 2808.1), (_QWEN3_8B,), _KL, width=4096, tokens=4096 + 512, layers=32, side=1024
)

_NVIDIA = "NVIDIA's, Gemma's terms"
_APACHE = "Apache 2.0"
_NON_COMMERCIAL = "FLUX non-commercial"

_EFFICIENT = "Efficient-Large-Model/"
_BFL = "black-forest-labs/"

PRESETS = (
    Preset("sd1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5", "CreativeML OpenRAIL-M", _SD_1_5, 50, 7.5, 2),
    Preset("sdxl", "stabilityai/stable-diffusion-xl-base-1.0", "CreativeML OpenRAIL++-M", _SDXL, 50, 5.0, 2),
    Preset("sana-0.6b", f"{_EFFICIENT}Sana_600M_1024px_diffusers", _NVIDIA, _SANA_0_6, 20, 4.5, 2),
    Preset("sana-1.6b", f"{_EFFICIENT}Sana_1600M_1024px_BF16_diffusers", _NVIDIA, _SANA_1_6, 20, 4.5, 2),
    Preset("sana1.5-1.6b", f"{_EFFICIENT}SANA1.5_1.6B_1024px_diffusers", _NVIDIA, _SANA_1_6, 20, 4.5, 2),
    Preset("sana1.5-4.8b", f"{_EFFICIENT}SANA1.5_4.8B_1024px_diffusers", _NVIDIA, _SANA_4_8, 20, 4.5, 2),
    Preset("sana-sprint-0.6b", f"{_EFFICIENT}Sana_Sprint_0.6B_1024px_diffusers", _NVIDIA, _SANA_0_6, 2, 4.5, 1),
    Preset("sana-sprint-1.6b", f"{_EFFICIENT}Sana_Sprint_1.6B_1024px_diffusers", _NVIDIA, _SANA_1_6, 2, 4.5, 1),
    Preset("flux.1-dev", f"{_BFL}FLUX.1-dev", _NON_COMMERCIAL, _FLUX_1, 28, 3.5, 1),
    Preset("flux.1-kontext", f"{_BFL}FLUX.1-Kontext-dev", _NON_COMMERCIAL, _FLUX_1, 28, 2.5, 1),
    Preset("flux.1-schnell", f"{_BFL}FLUX.1-schnell", _APACHE, _FLUX_1, 4, None, 1),
    Preset("flux.2-klein-4b", f"{_BFL}FLUX.2-klein-4B", _APACHE, _KLEIN_4, 4, None, 1),
    Preset("flux.2-klein-base-4b", f"{_BFL}FLUX.2-klein-base-4B", _APACHE, _KLEIN_4, 50, 4.0, 2),
    Preset("flux.2-klein-9b", f"{_BFL}FLUX.2-klein-9B", _NON_COMMERCIAL, _KLEIN_9, 4, None, 1),
    Preset("flux.2-klein-base-9b", f"{_BFL}FLUX.2-klein-base-9B", _NON_COMMERCIAL, _KLEIN_9, 50, 4.0, 2),
)

_BY_NAME = {preset.name: preset.path for preset in PRESETS}


def full_name(name: str) -> str:
    """The Hub id that a short name stands for, in any case; any other name, or that of a folder here, as it is."""
    return name if Path(name).exists() else _BY_NAME.get(name.lower(), name)


def similar_names(name: str) -> list[str]:
    """Short names that were probably meant; none for a Hub id that one of them stands for."""
    return [] if name in _BY_NAME.values() else get_close_matches(name.lower(), _BY_NAME, n=3)
