"""Model families, a file each, behind the protocol in base.py."""
