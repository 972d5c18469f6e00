"""`python -m ssl_lightning.cli` is `ssl-lightning`."""

import sys

from .main import main

sys.exit(main())
