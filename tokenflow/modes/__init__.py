"""Methods of editing, a file each, behind the protocol in base.py."""
