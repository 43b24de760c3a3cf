"""Stage 2, as a script: `python run_edit.py CONFIG [key=value …]`; the same as `tokenflow edit`."""

import sys

from tokenflow.__main__ import main

if __name__ == "__main__":
    main(["edit", *sys.argv[1:]])
