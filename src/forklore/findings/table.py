"""All rules. Everything that is said of a rule, in help, pages and outputs, comes from here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from forklore.findings.rule import Rule
from forklore.findings.rules import (
    calls,
    copies,
    descriptors,
    endings,
    limits,
    make,
    privilege,
    reaping,
    repeated,
    vfork,
)

RULES: Final[tuple[Rule, ...]] = (
    *endings.RULES,
    *reaping.RULES,
    *descriptors.RULES,
    *copies.RULES,
    *vfork.RULES,
    *calls.RULES,
    *limits.RULES,
    *repeated.RULES,
    *make.RULES,
    *privilege.RULES,
)
"""In the order in which pages have them; findings are told by their severity."""

BY_ID: Final[Mapping[str, Rule]] = MappingProxyType({rule.id: rule for rule in RULES})
