"""The recipes of the small Sana and SANA-Sprint models, on the scenes of tools.mini_sd.

    networks.py    the networks at their sizes, the schedules
    tokenizer.py   the grammar -> a GemmaTokenizer of its own
    text.py        sentences -> conditioning

Stages, each one command `python -m tools.mini_sana.<stage>`, seeded and resumable:

    autoencoder    crops of scenes, photographs and abstract drawings -> AutoencoderDC, 16 times smaller on each side
    latents        scenes -> encoded scenes and captions on disk
    diffusion      encoded scenes -> Sana's transformer and its text encoder
    controlnet     encoded scenes and their edges -> a SanaControlNet
    guidance       Sana -> the same, told the guidance scale
    sprint         that model -> SANA-Sprint, one, two or four steps
"""
