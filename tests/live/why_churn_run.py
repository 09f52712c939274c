"""Looks again and again at processes that come and go (tests/programs/hangs/churn.c), and says what it found as JSON.

``why_churn_run.py PROGRAM LANES LOOKS``: each look is at all processes that are there. An edge is wrong if it leads out
of its lane: from ``r3`` to anything but ``w3`` and ``r3``. (The parent of a zombie is outside of it.) Nothing is
certain but of the first lane, which stays as it is: its two wait for each other.
"""

from __future__ import annotations

import json
import subprocess
import sys

from forklore.features.why.conclude import Certainty, conclude
from forklore.features.why.data import to_json
from forklore.features.why.graph import Graph, Role, Task
from forklore.features.why.observe.observe import observe
from forklore.features.why.text import lines


def lane(task: Task) -> str | None:
    name = task.name.decode()
    return name[1:] if name[:1] in ("r", "w") and name[1:].isdigit() else None


def edges(graph: Graph) -> tuple[int, list[str]]:
    """How many lead from a lane to a task that is there, and those that lead out of it."""
    number, wrong = 0, []
    for task in graph.tasks.values():
        own = lane(task)
        for ender in task.wait.enders if own is not None else ():
            for other in graph.threads(ender.pid) if ender.role is not Role.PARENT else ():
                number += 1
                if lane(other) != own:
                    wrong.append(
                        f"{task.name!r} {task.tid} {task.wait.what} → {other.name!r} {other.tid}: {ender.role}"
                    )
    return number, wrong


def main() -> None:
    program, lanes, looks = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with subprocess.Popen([program, lanes], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as churn:
        assert churn.stdout is not None
        churn.stdout.readline()
        total, gone = 0, 0
        wrong: list[str] = []
        certain: list[str] = []
        for _ in range(looks):
            graph = observe([], everything=True)
            answers = conclude(graph)
            number, bad = edges(graph)
            total, gone, wrong = total + number, gone + len(graph.gone), wrong + bad
            sure = [each.chain.first for each in answers if each.chain.certainty is Certainty.CERTAIN]
            certain += [str(task.name) for task in sure if lane(task) not in (None, "0")]
            assert lines(graph, answers, 80, everything=True)
            assert to_json(graph, answers)
        found = {"edges": total, "gone": gone, "wrong": wrong[:5], "certain": certain[:5]}
        assert churn.stdin is not None
        churn.stdin.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
