"""Scores methods on data sets: `python evaluate.py --dirlab DIR`, the same as `jaxreg evaluate`."""

import sys

from jaxreg.cli.app import main

if __name__ == "__main__":
    sys.exit(main(arguments=["evaluate", *sys.argv[1:]]))
