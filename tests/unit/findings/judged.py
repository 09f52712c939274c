"""What the rules find in a story."""

from __future__ import annotations

from happenings import Story

from forklore.findings.check import Checked, Ignored, check
from forklore.findings.finding import Folded


def checked(story: Story, *ignored: str) -> Checked:
    return check(story.trace(), [Ignored.read(each) for each in ignored])


def found(story: Story, rule: str) -> list[Folded]:
    """All that one rule finds."""
    return [each for each in checked(story).findings if each.first.rule == rule]


def one(story: Story, rule: str) -> Folded:
    """The only thing that it finds."""
    (only,) = found(story, rule)
    return only


def ids(story: Story) -> set[str]:
    """The rules that find something."""
    return {each.first.rule for each in checked(story).findings}
