"""``python -m forklore``."""

import sys

from forklore.cli.main import main

sys.exit(main())
