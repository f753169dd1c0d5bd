"""Trains the cascade: `python train.py --config cascade`, the same as `jaxreg train`."""

import sys

from jaxreg.cli.app import main

if __name__ == "__main__":
    sys.exit(main(arguments=["train", *sys.argv[1:]]))
