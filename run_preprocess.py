"""Stage 1, as a script: `python run_preprocess.py CONFIG [key=value …]`; the same as `tokenflow preprocess`."""

import sys

from tokenflow.__main__ import main

if __name__ == "__main__":
    main(["preprocess", *sys.argv[1:]])
