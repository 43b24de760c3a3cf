"""Model families behind one protocol (model.py), and how they are loaded."""
