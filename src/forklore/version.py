"""The version of forklore."""

from typing import Final

VERSION: Final = "0.1.0"
