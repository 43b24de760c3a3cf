"""Edit a video by a sentence, consistently over time."""
