"""`python -m jaxreg`: see `jaxreg.cli.app`."""

import sys

from jaxreg.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
