"""Stage: distils Sana into SANA-Sprint, which leads from any time to the clean picture in one step.

The teacher, told a guidance scale, takes SUBSTEPS Euler steps to time 0; the student learns the one velocity that leads
there. Times are those of one, two and four steps of SANA-Sprint's own schedule, and any between.
"""

import numpy as np
import torch
from torch import Tensor

from tools.mini_sana.diffusion import GUIDANCE, load_sana, predict, write_samples
from tools.mini_sana.guidance import STAGE as TEACHER
from tools.mini_sana.latents import FOLDER
from tools.mini_sana.networks import SHIFT, build_sana
from tools.mini_sd.diffusion import draw_batch
from tools.mini_sd.flow import chord, shift_times
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.latents import load_scenes
from tools.mini_sd.training import Progress, Run, choose_device, stage_arguments

STAGE = "sana_sprint"
SUBSTEPS = 6
FIRST = 0.4  # share of the batch at time 1, where the first step always is
SECOND = 0.3  # share of it at the time of the second of two steps
SECOND_TIME = float(np.sin(1.3) / (np.sin(1.3) + np.cos(1.3)))  # where diffusers' pipeline puts it


def sample_times(count: int, device: torch.device) -> Tensor:
    """Times in (0,1], count of them."""
    kind = torch.rand(count, device=device)
    anywhere = shift_times(torch.rand(count, device=device), SHIFT).clamp(min=0.05)
    return torch.where(kind < FIRST, 1.0, torch.where(kind < FIRST + SECOND, SECOND_TIME, anywhere))


def main() -> None:
    """Trains until the last step; samples at the end."""
    arguments = stage_arguments(__doc__, steps=3500, batch=24, rate=5e-4).parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    scenes = load_scenes(arguments.runs / FOLDER, device)
    teacher, text = load_sana(arguments.runs, TEACHER, True, device)
    student = build_sana(guided=True).to(device).train()
    student.load_state_dict(teacher.state_dict())
    networks = {"transformer": student}
    run = Run.of(arguments, STAGE, networks, 0.99)
    progress = Progress(run.steps)
    scales = torch.full((arguments.batch,), GUIDANCE, device=device)

    def loss_of(latents: Tensor, *tokens: Tensor) -> Tensor:
        times = sample_times(len(latents), device)
        share = times.view(-1, 1, 1, 1)
        noisy = (1 - share) * latents + share * torch.randn_like(latents)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                asked = text(*tokens)

                def guided(latents: Tensor, times: Tensor) -> Tensor:
                    return predict(teacher, latents, times, asked, scales).float()

                wanted = chord(guided, noisy, times, torch.zeros_like(times), SUBSTEPS)
            prediction = predict(student, noisy, times, asked, scales)
        return (share * (prediction.float() - wanted)).square().mean()  # of clean latents

    gradients = Gradients(loss_of, run.parameters())
    for step in run.loop(arguments.save_minutes):
        rng = np.random.default_rng((10, arguments.seed, step))
        torch.manual_seed(arguments.seed + step)
        latents, captions, _ = draw_batch(scenes, arguments.batch, rng)
        loss = gradients(latents, *text.tokens(captions))
        run.descend()
        progress.report(step, loss=loss)
    write_samples(arguments.runs, STAGE, run.step, scenes.scale, device, guided=True)


if __name__ == "__main__":
    main()
