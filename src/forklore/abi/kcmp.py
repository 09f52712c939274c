"""kcmp(2): what two tasks can be compared by."""

from __future__ import annotations

from forklore.abi._generated_kcmp import KcmpType as KcmpType
