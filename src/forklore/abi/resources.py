"""Resource limits, as prlimit(2) numbers them."""

from __future__ import annotations

from typing import Final

from forklore.abi._generated_resources import Resource as Resource

RLIM_INFINITY: Final = (1 << 64) - 1
"""No limit, in the 64-bit form of prlimit(2) (RLIM64_INFINITY of linux/resource.h)."""
