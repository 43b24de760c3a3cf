"""Where the same place is in two source frames: a way of finding out a file, behind the protocol in base.py."""
