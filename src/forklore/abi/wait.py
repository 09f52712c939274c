"""wait4(2) and waitid(2): their options and what they wait for."""

from __future__ import annotations

from forklore.abi._generated_wait import IdType as IdType
from forklore.abi._generated_wait import WaitOption as WaitOption
