"""The recipe of the small model that ships with tokenflow.

    words.py         what the model knows: objects, materials, styles, backgrounds, lights
    captions.py      words -> a sentence, by a grammar with synonyms and dropped parts
    sprites.py       an object in a material and a style -> a small premultiplied RGBA picture
    painting.py      brushes: colours, shapes and textures onto a canvas
    skies.py, grounds.py, clutter.py  what is above the horizon, below it, and stands about
    backgrounds.py   a background under a light -> a painted canvas, wider than the picture
    scene.py         Scene: words, poses and camera -> picture and masks
    held_out.py      a second generator of scenes, for evaluation alone
    clip.py          Clip: a scene in motion, with exact flow, masks, occlusion and perfect edits
    crops.py         what the autoencoder trains on: crops of scenes, photographs and abstract drawings
    networks.py      the networks at their sizes, and the noise schedule
    muon.py          the optimiser of all stages
    gradients.py     the gradients of a loss, on a GPU by a recording that is replayed
    drawing.py       pictures drawn ahead by other processes
    sampling.py      pictures from prompts while training, and grids of pictures
    training.py      what every training stage shares: resuming, averaging, learning rate, logging

Stages, each one command `python -m tools.mini_sd.<stage>`, seeded and resumable:

    build_sprites    npm packages of emoji -> sprites/
    build_clips      -> data/clips/
    photographs      Debian packages of wallpapers -> photographs on disk
    autoencoder      crops of scenes, photographs and abstract drawings -> AutoencoderKL
    reconstruction   how well it gives pictures back
    latents          scenes -> encoded scenes and captions on disk
    tokenizer        the grammar -> a CLIPTokenizer of its own
    diffusion        encoded scenes -> UNet and text encoder
    controlnet       encoded scenes and their edges -> a Canny ControlNet
    classifier       scenes -> the network that the quality figures are measured with
    export           -> data/models/, fp16 safetensors
    evaluate         the figures, on scenes never trained on
    card             the model card, with grids of samples and of reconstructions
"""
