"""Stage: distils mini-flux into four steps without guidance, as FLUX.1 [schnell] has.

From a scene noised to one of the four levels, the teacher takes SUBSTEPS Euler steps to the next level; the student
learns the one velocity that leads there (progressive distillation, Salimans and Ho, ICLR 2022, in one round).
"""

import numpy as np
import torch
from torch import Tensor

from tools.mini_flux.diffusion import load_flux, predict, write_samples
from tools.mini_flux.guidance import SHOWN_SCALE
from tools.mini_flux.guidance import STAGE as TEACHER
from tools.mini_flux.networks import build_flux
from tools.mini_sd.diffusion import draw_batch
from tools.mini_sd.flow import chord, sampling_times
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.latents import load_scenes
from tools.mini_sd.training import Progress, Run, choose_device, stage_arguments

STAGE = "flux_schnell"
STEPS = 4
SUBSTEPS = 4


def main() -> None:
    """Trains until the last step; samples at the end."""
    arguments = stage_arguments(__doc__, steps=3000, batch=24, rate=4e-4).parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    scenes = load_scenes(arguments.runs / "latents", device)
    teacher, text = load_flux(arguments.runs, TEACHER, True, device)
    student = build_flux(guided=False).to(device).train()
    student.load_state_dict(teacher.state_dict(), strict=False)  # all but the embedding of the scale
    run = Run.of(arguments, STAGE, {"transformer": student}, 0.99)
    progress, levels = Progress(run.steps), sampling_times(STEPS, shift=1.0).to(device)
    scales = torch.full((arguments.batch,), SHOWN_SCALE, device=device)

    def loss_of(latents: Tensor, *tokens: Tensor) -> Tensor:
        places = torch.randint(STEPS, (len(latents),), device=device)
        start, end = levels[places], levels[places + 1]
        share = start.view(-1, 1, 1, 1)
        noisy = (1 - share) * latents + share * torch.randn_like(latents)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                asked = text(*tokens)

                def guided(latents: Tensor, times: Tensor) -> Tensor:
                    return predict(teacher, latents, times, asked, scales).float()

                wanted = chord(guided, noisy, start, end, SUBSTEPS)
            prediction = predict(student, noisy, start, asked)
        return (prediction.float() - wanted).square().mean()

    gradients = Gradients(loss_of, run.parameters())
    for step in run.loop(arguments.save_minutes):
        rng = np.random.default_rng((4, arguments.seed, step))
        torch.manual_seed(arguments.seed + step)
        latents, captions, _ = draw_batch(scenes, arguments.batch, rng)
        loss = gradients(latents, *text.tokens(captions))
        run.descend()
        progress.report(step, loss=loss)
    settings = {"num_inference_steps": STEPS, "guidance_scale": 0.0}
    write_samples(arguments.runs, STAGE, run.step, scenes.scale, device, guided=False, **settings)


if __name__ == "__main__":
    main()
