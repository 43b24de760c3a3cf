"""What people have on disk or on the Hub, and how it becomes a pipeline of diffusers: folders, files, ids."""
