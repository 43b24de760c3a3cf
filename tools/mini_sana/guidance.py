"""Stage: distils classifier-free guidance into a scale that the network is told, as tools.mini_flux.guidance does."""

import numpy as np
import torch
from torch import Tensor

from tools.mini_sana.diffusion import STAGE as TEACHER
from tools.mini_sana.diffusion import load_sana, predict
from tools.mini_sana.latents import FOLDER
from tools.mini_sana.networks import SHIFT, build_sana
from tools.mini_sd.diffusion import draw_batch
from tools.mini_sd.flow import add_noise
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.latents import load_scenes
from tools.mini_sd.training import Progress, Run, choose_device, stage_arguments

STAGE = "sana_guidance"
SCALES = 1.0, 6.0


def main() -> None:
    """Trains until the last step."""
    arguments = stage_arguments(__doc__, steps=1500, batch=24, rate=5e-4).parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    scenes = load_scenes(arguments.runs / FOLDER, device)
    teacher, text = load_sana(arguments.runs, TEACHER, False, device)
    student = build_sana(guided=True).to(device).train()
    student.load_state_dict(renamed(teacher.state_dict(), student.state_dict()), strict=False)
    networks = {"transformer": student}
    run = Run.of(arguments, STAGE, networks, 0.99)
    progress, none = Progress(run.steps), text.tokens([""] * arguments.batch)

    def loss_of(latents: Tensor, *tokens: Tensor) -> Tensor:
        noised = add_noise(latents, SHIFT)
        scales = torch.empty(len(latents), device=device).uniform_(*SCALES)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                asked, empty = text(*tokens[:2]), text(*tokens[2:])
                with_text = predict(teacher, noised.noisy, noised.times, asked)
                without = predict(teacher, noised.noisy, noised.times, empty)
                wanted = without + scales.view(-1, 1, 1, 1) * (with_text - without)
            prediction = predict(student, noised.noisy, noised.times, asked, scales)
        return (prediction.float() - wanted.float()).square().mean()

    gradients = Gradients(loss_of, run.parameters())
    for step in run.loop(arguments.save_minutes):
        rng = np.random.default_rng((9, arguments.seed, step))
        torch.manual_seed(arguments.seed + step)
        latents, captions, _ = draw_batch(scenes, arguments.batch, rng)
        loss = gradients(latents, *text.tokens(captions), *none)
        run.descend()
        progress.report(step, loss=loss)


def renamed(plain: dict[str, Tensor], guided: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network without a scale under the names that one with a scale has for them."""
    names = {name.replace("time_embed.emb.timestep_embedder", "time_embed.timestep_embedder"): name for name in plain}
    return {new: plain[old] for new, old in names.items() if new in guided}


if __name__ == "__main__":
    main()
