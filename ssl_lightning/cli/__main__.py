"""`python -m ssl_lightning.cli` is `ssl-lightning`."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
