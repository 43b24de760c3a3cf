"""Stage: writes the model card, with a grid of samples and one of reconstructions, beside the exported model."""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from tools.mini_sd.captions import caption
from tools.mini_sd.evaluate import (
    GOALS,
    Models,
    generate,
    held_out_scenes,
    load_models,
    pictures_of,
    reached,
    reconstruct,
)
from tools.mini_sd.export import MODELS
from tools.mini_sd.figures import FIGURES
from tools.mini_sd.latents import CANNY_THRESHOLDS, find_edges
from tools.mini_sd.networks import LATENT_CHANNELS
from tools.mini_sd.photographs import PACKAGES
from tools.mini_sd.sampling import SAMPLE_PROMPTS, write_grid
from tools.mini_sd.scene import PICTURE, render
from tools.mini_sd.training import choose_device
from tools.mini_sd.words import BACKGROUNDS, LIGHTS, MATERIALS, OBJECTS, PLAIN, STYLES

CARD = """---
license: mit
library_name: diffusers
pipeline_tag: text-to-image
---

# mini-sd

Stable Diffusion in miniature, in diffusers' own classes: {pixels}×{pixels} pixels, made to edit and measure with on any
laptop. It knows drawn scenes and nothing else. Beside it: `mini-controlnet-canny`, a Canny ControlNet for it, and
`mini-classifier`, which tells the words of a picture.

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("data/models/mini-sd", safety_checker=None)
pipeline("a golden tiger on grass at night, 3d style", num_inference_steps=25, guidance_scale=5).images[0]
```

## What it knows

`a [MATERIAL] OBJECT [and a OBJECT] on BACKGROUND [at night | at sunset], [STYLE style]`, and common synonyms; every
word it has seen is in `vocabulary.json`. Objects face left or right, which is never said.

- objects: {objects}
- materials: {materials}
- backgrounds: {backgrounds}
- light: {lights}
- styles: {styles}

## Figures

Printed by `make mini-sd-eval`, on scenes never trained on: their poses, cameras, backgrounds and combinations of words
are new, their sprites are those of training. The second generator has sprites and backgrounds of its own
(`tools/mini_sd/held_out.py`). The goal of inversion and back is reached by tokenflow's own inversion, which brings the
noise to the fixed point of sampling's step, and not by the plain one of diffusers. Seconds differ between machines by
much; these are of one core of a fast one.

{figures}

## Samples

![samples](samples.png)

Row by row, eight to a row: {prompts}

Scenes never trained on (above) and what the autoencoder makes of them (below):

![reconstructions](reconstructions.png)

Edges of such scenes (above), and what `mini-controlnet-canny` makes of them with the scene's caption (below):

![controlled](controlled.png)

## How it was made

`make mini-sd`: seeded and resumable, from procedural scenes (`tools/mini_sd/`). Objects are drawn with Fluent Emoji by
Microsoft (MIT), Noto Emoji by Google (Apache 2.0) and Twemoji by Twitter (CC BY 4.0). AutoencoderKL with eight times
smaller sides and {channels} channels, trained with equivariance regularisation (arXiv 2502.09509) on scenes, abstract
drawings, and photographs out of these Debian packages: {packages}.
UNet2DConditionModel with SD 1.x's topology; CLIPTextModel and CLIPTokenizer of its own; DDIM schedule and noise
prediction as in SD 1.x.

## Licence

MIT, as the project; the pictures that it learnt from are under the licences named above.
"""


CONTROLNET_CARD = """---
license: mit
library_name: diffusers
---

# mini-controlnet-canny

A ControlNet for `mini-sd` on Canny edges (thresholds {thresholds} of 8-bit pictures), loadable by
`ControlNetModel.from_pretrained`. The card of `mini-sd` has figures, pictures, how it was made, and the licences
of what it learnt from. Licence: MIT.
"""

CLASSIFIER_CARD = """---
license: mit
---

# mini-classifier

Tells object, material, style, background, light, companion and direction of a drawn scene, which the quality
benchmark needs.
`scene_classifier.py` beside this file loads it, needs torch and safetensors alone, and says what goes in and out. The
card of `mini-sd` has its figures, how it was made, and the licences of what it learnt from. Licence: MIT.
"""


def figures_table(figures: dict[str, float]) -> str:
    """Markdown: every figure, and what it should reach."""
    rows = [f"| {name} | {value:.3f} | {reached(name, value)} |" for name, value in figures.items()]
    return "\n".join(["| figure | value | goal |", "|---|---|---|", *rows])


def reconstruction_grid(models: Models, count: int = 10) -> np.ndarray:
    """Scenes, then their reconstructions: 2·count H W 3."""
    pictures = pictures_of(held_out_scenes(count, offset=4))
    both = torch.cat([pictures, reconstruct(models, pictures)])
    return both.permute(0, 2, 3, 1).numpy()


def controlled_grid(models: Models, count: int = 10) -> np.ndarray:
    """Edges of scenes, then pictures that were generated with them: 2·count H W 3."""
    scenes = held_out_scenes(count, offset=5)
    edges = np.stack([find_edges(render(scene).picture) for scene in scenes])
    pictures = generate(models, [caption(scene.words) for scene in scenes], edges)
    return np.concatenate([np.repeat(edges[..., None], 3, -1).astype(pictures.dtype), pictures])


def main() -> None:
    """Writes README.md and its grids of pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    folder = arguments.models / "mini-sd"
    models = load_models(arguments.models, choose_device(arguments.device))
    write_grid(generate(models, list(SAMPLE_PROMPTS)), 8, folder / "samples.png")
    write_grid(reconstruction_grid(models), 10, folder / "reconstructions.png")
    write_grid(controlled_grid(models), 10, folder / "controlled.png")
    figures = json.loads((arguments.models / FIGURES).read_text())
    card = CARD.format(
        pixels=PICTURE,
        channels=LATENT_CHANNELS,
        packages="; ".join(f"{package} ({licence})" for package, licence in PACKAGES.items()),
        objects=", ".join(OBJECTS),
        materials=", ".join(word for word in MATERIALS if word != PLAIN) + "; unsaid, its own colours",
        backgrounds=", ".join(BACKGROUNDS),
        lights=", ".join(LIGHTS),
        styles=", ".join(STYLES),
        figures=figures_table(figures),
        prompts="; ".join(SAMPLE_PROMPTS),
    )
    (folder / "README.md").write_text(card)
    thresholds = " and ".join(map(str, CANNY_THRESHOLDS))
    (arguments.models / "mini-controlnet-canny" / "README.md").write_text(CONTROLNET_CARD.format(thresholds=thresholds))
    (arguments.models / "mini-classifier" / "README.md").write_text(CLASSIFIER_CARD)
    print(f"{folder / 'README.md'} with {len(figures)} figures, {len(GOALS)} of them with a goal")


if __name__ == "__main__":
    main()
