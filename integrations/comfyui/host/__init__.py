"""What ComfyUI asks of its nodes: types, widgets, folders, progress, memory, and video as tensors."""
