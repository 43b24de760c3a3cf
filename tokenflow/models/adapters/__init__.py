"""What adds to a loaded model: LoRAs and textual inversions, through diffusers' own loaders and peft."""
