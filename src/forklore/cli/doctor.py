"""``forklore doctor``: what this machine and user allow, and what to do about what they do not."""

from __future__ import annotations

import argparse
import sys

HELP: str = "say what this machine allows, what forklore loses by each lack, and what to do about it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = (
        "Read the settings that decide what can be traced, try each thing on a short-lived\n"
        "child, and explain. Exit status: 0 if tracing works here, 1 if it does not."
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="for people or for programs")


def run(args: argparse.Namespace) -> int:
    """Print the report on stdout; the exit status says whether tracing works at all."""
    from forklore.cli.common import in_words
    from forklore.cli.main import complain
    from forklore.features.doctor import text
    from forklore.features.doctor.conclusions import can_trace, judge
    from forklore.features.doctor.observe import collect

    try:
        facts = collect()
    except OSError as problem:
        complain(f"doctor: {in_words(problem)}: nothing can be tried here; a seccomp profile may forbid it")
        return 1
    checks = judge(facts)
    report = text.document if args.format == "json" else text.text
    sys.stdout.write(report(facts, checks))
    return 0 if can_trace(checks) else 1
