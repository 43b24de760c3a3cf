"""The recipe of the small CLIP, on the scenes and captions of tools.mini_sd: figures and regions by words are tested
with it.

    networks.py    the model at its size, and what prepares pictures for it

Stages, each one command `python -m tools.mini_clip.<stage>`, seeded and resumable:

    contrast       scenes and captions -> CLIPModel
    export         -> data/models/mini-clip
"""
