"""Stage: trains FLUX.2 [klein]'s transformer and text encoder, on captions and on instructions with references.

Four batches in ten are scenes from captions, as in tools.mini_flux.diffusion. The others have one to three references,
whose tokens stand beside the noisy ones, as Flux2KleinPipeline places them:

    1  a scene; the instruction says what to change in it
    2  a scene, and another that shows the new object, which the instruction does not name
    3  the same, and one whose background is asked for
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel
from torch import Tensor

from tools.mini_flux.autoencoder import as_flux2
from tools.mini_flux.instructions import sample_instruction, with_references
from tools.mini_flux.networks import (
    KLEIN_SHIFT,
    READ_LAYERS,
    TOKEN,
    build_flux_schedule,
    build_klein,
    pack,
    places,
    unpack,
)
from tools.mini_flux.pairs import EncodedPairs, load_pairs
from tools.mini_flux.text import KleinText
from tools.mini_flux.tokenizers import LENGTH
from tools.mini_sd.autoencoder import load_autoencoder
from tools.mini_sd.captions import sample_caption
from tools.mini_sd.diffusion import COARSE, EMPTY_CAPTIONS, draw_batch, shrink
from tools.mini_sd.flow import add_noise
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.latents import EncodedScenes, load_scenes, words_of
from tools.mini_sd.networks import COMPRESSION
from tools.mini_sd.sampling import SAMPLE_PROMPTS, STEPS, write_grid
from tools.mini_sd.scene import PICTURE
from tools.mini_sd.training import Progress, Run, choose_device, load_averages, stage_arguments
from tools.mini_sd.words import KINDS

STAGE = "klein"
FULL = PICTURE // COMPRESSION  # latents along a side
REFERENCES = (0.4, 0.42, 0.12, 0.06)  # shares of batches with none, one, two and three
CAPTIONED = 0.25  # share of instructions that are the caption of what is wanted
REFERENCE_TIME = 10  # between the places of one reference and the next
GUIDANCE = 4.0


def predict(
    transformer: Flux2Transformer2DModel,
    latents: Tensor,
    times: Tensor,
    text: Tensor,
    references: Sequence[Tensor] = (),
) -> Tensor:
    """The velocity b c h w of latents b c h w at times b.

    Args:
        transformer: the network.
        latents: b c h w.
        times: b, in (0,1].
        text: b LENGTH d.
        references: r times b c h w, clean latents.
    """
    height, width = latents.shape[-2:]
    side = height // TOKEN
    tokens, positions = [pack(latents)], [places(side, FULL // TOKEN, axes=4)]
    for index, reference in enumerate(references):
        tokens.append(pack(reference))
        positions.append(places(side, FULL // TOKEN, axes=4, time=REFERENCE_TIME * (index + 1)))
    text_places = torch.zeros(text.shape[1], 4)
    text_places[:, 3] = torch.arange(text.shape[1])
    velocity = transformer(
        hidden_states=torch.cat(tokens, dim=1),
        encoder_hidden_states=text,
        timestep=times,
        img_ids=torch.cat(positions).to(latents.device),
        txt_ids=text_places.to(latents.device),
        return_dict=False,
    )[0]
    return unpack(velocity[:, : side**2], height, width)


class Examples:
    """Draws batches of scenes and of pairs.

    Args:
        scenes: for captions, and for second and third references.
        pairs: of scenes before and after a change.
    """

    def __init__(self, scenes: EncodedScenes, pairs: EncodedPairs) -> None:
        self.scenes, self.pairs = scenes, pairs
        words = scenes.words.numpy()
        self._showing = {kind: _places_by_word(words[:, column]) for column, kind in enumerate(KINDS)}

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Tensor, list[str], list[Tensor]]:
        """Latents b c h w, sentences, and a random number of references b c h w."""
        number = int(rng.choice(len(REFERENCES), p=REFERENCES))
        if number == 0:
            latents, sentences, _ = draw_batch(self.scenes, count, rng)
            return latents, sentences, []
        chosen = rng.integers(len(self.pairs), size=count)
        sentences, others = [], []
        for place in chosen:
            before, after = words_of(self.pairs.words_before[place]), words_of(self.pairs.words_after[place])
            shown = [("object", after.object), ("background", after.background)][: number - 1]
            others.append([rng.choice(self._showing[kind][KINDS[kind].index(word)]) for kind, word in shown])
            if rng.random() < EMPTY_CAPTIONS:
                sentences.append("")
            elif number > 1:
                sentences.append(with_references(before, after, number, rng))
            elif rng.random() < CAPTIONED:
                sentences.append(sample_caption(after, rng))
            else:
                sentences.append(sample_instruction(before, after, rng))
        further = [self.scenes.latents[list(column)] for column in zip(*others, strict=True)]
        return self.pairs.after[chosen], sentences, [self.pairs.before[chosen], *further]


def _places_by_word(column: np.ndarray) -> dict[int, np.ndarray]:
    return {int(word): np.flatnonzero(column == word) for word in np.unique(column)}


def load_klein(runs: Path, stage: str, device: torch.device) -> tuple[Flux2Transformer2DModel, KleinText]:
    """The averaged weights of a stage's last checkpoint, with the text encoder, which only the first stage trains."""
    transformer, text = build_klein().to(device), KleinText.build(runs, device)
    load_averages(runs / STAGE, text.networks)
    load_averages(runs / stage, {"transformer": transformer})
    for network in (transformer, text.qwen):
        network.eval().requires_grad_(False)
    return transformer, text


def assemble(
    transformer: Flux2Transformer2DModel, text: KleinText, autoencoder: AutoencoderKLFlux2, distilled: bool = False
) -> Flux2KleinPipeline:
    """The parts as diffusers' pipeline, silent."""
    pipeline = Flux2KleinPipeline(
        scheduler=build_flux_schedule(dynamic=True),
        vae=autoencoder,
        text_encoder=text.qwen,
        tokenizer=text.tokenizer,
        transformer=transformer,
        is_distilled=distilled,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def write_samples(
    runs: Path, stage: str, step: int, scenes: EncodedScenes, device: torch.device, **settings: float
) -> None:
    """A grid of pictures from a stage's averaged weights, in samples/; settings of the pipeline, such as its steps."""
    autoencoder = as_flux2(load_autoencoder(runs, device), scenes)
    pipeline = assemble(*load_klein(runs, stage, device), autoencoder)
    with torch.autocast(device.type, torch.bfloat16):
        pictures = pipeline(
            prompt=list(SAMPLE_PROMPTS),
            height=PICTURE,
            width=PICTURE,
            max_sequence_length=LENGTH,
            text_encoder_out_layers=READ_LAYERS,
            generator=torch.Generator("cpu").manual_seed(0),
            output_type="np",
            **{"num_inference_steps": STEPS, "guidance_scale": GUIDANCE} | settings,
        ).images
    write_grid(np.asarray(pictures, np.float32), 8, runs / "samples" / f"{stage}-{step:06d}.png")


def main() -> None:
    """Trains until the last step, with a grid of samples on the way."""
    parser = stage_arguments(__doc__, steps=16_000, batch=24, rate=1.5e-3)
    parser.add_argument("--coarse", type=float, default=COARSE, help="share of the training that sees small latents")
    parser.add_argument("--sample-every", type=int, default=1000, help="steps between grids of samples")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    scenes = load_scenes(arguments.runs / "latents", device)
    examples = Examples(scenes, load_pairs(arguments.runs / "pairs", scenes.scale, device))
    transformer, text = build_klein().to(device).train(), KleinText.build(arguments.runs, device)
    networks = {"transformer": transformer, **text.networks}
    run = Run.of(arguments, STAGE, networks)
    progress = Progress(run.steps)

    def loss_of(latents: Tensor, tokens: Tensor, mask: Tensor, *references: Tensor) -> Tensor:
        noised = add_noise(latents, KLEIN_SHIFT)
        with torch.autocast(device.type, torch.bfloat16):
            prediction = predict(transformer, noised.noisy, noised.times, text(tokens, mask), references)
        return noised.loss(prediction)

    gradients = Gradients(loss_of, run.parameters())
    for step in run.loop(arguments.save_minutes):
        rng = np.random.default_rng((6, arguments.seed, step))
        torch.manual_seed(arguments.seed + step)
        latents, sentences, references = examples.draw(arguments.batch, rng)
        if run.done < arguments.coarse:
            latents, references = shrink(latents), [shrink(reference) for reference in references]
        loss = gradients(latents, *text.tokens(sentences), *references)
        run.descend()
        progress.report(step, loss=loss)
        if (step + 1) % arguments.sample_every == 0:
            run.save()
            write_samples(arguments.runs, STAGE, step + 1, scenes, device)


if __name__ == "__main__":
    main()
