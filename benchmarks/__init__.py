"""Speed and quality, each one command. Imports tokenflow and the drawn scenes of tools/; nothing imports this."""
