"""Still images and animations, read with Pillow."""
