"""Stage: distils classifier-free guidance into a scale that the network is told (Meng et al., CVPR 2023, section 3.1).

The student starts with the weights of the first stage, which was always told 1.
"""

import numpy as np
import torch
from torch import Tensor

from tools.mini_flux.diffusion import NO_GUIDANCE, load_flux, predict, write_samples
from tools.mini_flux.diffusion import STAGE as TEACHER
from tools.mini_flux.networks import FLUX_SHIFT, build_flux
from tools.mini_sd.diffusion import draw_batch
from tools.mini_sd.flow import add_noise
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.latents import load_scenes
from tools.mini_sd.training import Progress, Run, choose_device, stage_arguments

STAGE = "flux_guidance"
SCALES = 1.0, 6.0
SHOWN_SCALE = 3.5


def main() -> None:
    """Trains until the last step; samples at the end."""
    arguments = stage_arguments(__doc__, steps=1500, batch=24, rate=3e-4).parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    scenes = load_scenes(arguments.runs / "latents", device)
    teacher, text = load_flux(arguments.runs, TEACHER, True, device)
    student = build_flux(guided=True).to(device).train()
    student.load_state_dict(teacher.state_dict())
    run = Run.of(arguments, STAGE, {"transformer": student}, 0.99)
    progress = Progress(run.steps)
    plain = torch.full((arguments.batch,), NO_GUIDANCE, device=device)
    none = text.tokens([""] * arguments.batch)

    def loss_of(latents: Tensor, *tokens: Tensor) -> Tensor:
        noised = add_noise(latents, FLUX_SHIFT)
        scales = torch.empty(len(latents), device=device).uniform_(*SCALES)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                asked, empty = text(*tokens[:2]), text(*tokens[2:])
                with_text = predict(teacher, noised.noisy, noised.times, asked, plain)
                without = predict(teacher, noised.noisy, noised.times, empty, plain)
                wanted = without + scales.view(-1, 1, 1, 1) * (with_text - without)
            prediction = predict(student, noised.noisy, noised.times, asked, scales)
        return (prediction.float() - wanted.float()).square().mean()

    gradients = Gradients(loss_of, run.parameters())
    for step in run.loop(arguments.save_minutes):
        rng = np.random.default_rng((3, arguments.seed, step))
        torch.manual_seed(arguments.seed + step)
        latents, captions, _ = draw_batch(scenes, arguments.batch, rng)
        loss = gradients(latents, *text.tokens(captions), *none)
        run.descend()
        progress.report(step, loss=loss)
    write_samples(arguments.runs, STAGE, run.step, scenes.scale, device, guidance_scale=SHOWN_SCALE)


if __name__ == "__main__":
    main()
