"""The sound of a clip: reading the part that is needed, and copying or encoding it for another file."""
