"""The recipes of the small FLUX.1 and FLUX.2 [klein] models, on the scenes and the autoencoder of tools.mini_sd.

    networks.py      the networks at their sizes, the schedules, packing
    instructions.py  two sets of words -> the instruction that leads from one picture to the other
    tokenizers.py    the grammar -> tokenizers for T5 and Qwen
    text.py          sentences -> conditioning

Stages, each one command `python -m tools.mini_flux.<stage>`, seeded and resumable:

    diffusion        encoded scenes -> FLUX.1's transformer and text encoders
    guidance         that model -> mini-flux, which is told the guidance scale, as [dev] is
    few_step         mini-flux -> mini-flux-schnell, four steps without guidance
"""
