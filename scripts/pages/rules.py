"""docs/rules.md from the table of rules."""

from __future__ import annotations

from typing import Final

from forklore.decode.rules.rule import NEWEST_KERNEL, Kernel, Rule
from forklore.decode.rules.table import RULES

_HEAD: Final = """\
# Why the kernel refuses

Generated from the rules in the code by `scripts/generate-pages`; do not edit.

When a call fails, forklore shows the rules of this table that fit the arguments and the error, in the order in
which the kernel checks them. A rule that is proved is *certain*: by the arguments, by what was read of the caller
right after the refusal (capabilities, threads, scheduling policy, limits, namespaces, seccomp, what a descriptor is),
by what the trace shows (the init of a pid namespace has ended), or because nothing else is left. One that depends on
what is not known is shown as *perhaps*, and only where nothing is certain; one that is disproved is left out. If no
rule fits, it says so.

The rules follow the source of Linux {newest}. A version in the last column limits a rule to kernels from it
on, or before it.

Four things that clone(2) calls errors are none, and have no rule: a bad `parent_tid` or `child_tid` pointer
(the kernel ignores the failed store), CLONE_DETACHED passed to clone(2) (ignored), CLONE_NEWPID with
CLONE_PARENT, and CLONE_NEWUSER with CLONE_PARENT. And ERESTARTNOINTR (513), which only a tracer sees, is not
a failure: the kernel makes the call again.
"""
_TITLES: Final = (
    ("fork, vfork, clone and clone3", ("fork", "vfork", "clone", "clone3")),
    ("unshare", ("unshare",)),
    ("setns", ("setns",)),
    ("close_range, setsid and ptrace", ("close_range", "setsid", "ptrace")),
)


def page() -> str:
    """The whole page, in Markdown."""
    parts = [_HEAD.format(newest=_version(NEWEST_KERNEL))]
    for title, calls in _TITLES:
        parts.append(f"\n## {title}\n\n| rule | error | calls | what is wrong | what to do | source | Linux |")
        parts.append("\n|---|---|---|---|---|---|---|\n")
        parts.extend(_row(rule) for rule in RULES if set(rule.calls) & set(calls))
    return "".join(parts)


def _row(rule: Rule) -> str:
    calls = "all" if len(rule.calls) == 4 else ", ".join(rule.calls)
    cells = (f"`{rule.id}`", rule.errno, calls, rule.text, rule.advice, rule.source, _range(rule))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _range(rule: Rule) -> str:
    since = f"since {_version(rule.since)}" if rule.since else ""
    until = f"before {_version(rule.until)}" if rule.until else ""
    return ", ".join(filter(None, (since, until)))


def _version(kernel: Kernel) -> str:
    return ".".join(map(str, kernel))

