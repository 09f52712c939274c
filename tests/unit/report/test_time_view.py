"""``show --view time``: where the time went, as text and as JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from happenings import MS, Story

from forklore.events import records as ev
from forklore.export import json_times
from forklore.export.table import ExportOptions
from forklore.model.build import built
from forklore.report.styled_lines import plain
from forklore.report.times import time_lines
from forklore.sources.files import open_any

MAKE = Path(__file__).parents[3] / "docs/pictures/make.jsonl.gz"


def as_json(story: Story) -> Any:
    out = io.BytesIO()
    json_times.write(story.trace(), out, ExportOptions(view="time"))
    return json.loads(out.getvalue())


def build() -> Story:
    story = Story()
    root = story.begin(100, comm="make")
    for tid in (101, 102):
        child = story.clone(root, tid)
        story.exec(child, "/bin/cc", argv=["cc", "-O2", f"f{tid}.c"])
        story._t += 20 * MS
        story.tell(ev.Exit(t=story.t, task=child, status=0, cpu=3000, peak=2048))
    story.tell(ev.Exit(t=story.t, task=root, status=0, cpu=7000, peak=4096))
    return story.end()


VIEW = """\
make -j2
  47 ms · cpu 7.0 ms, 0.1 processors on average · 3 processes

Processes at once
  ▄▆████████████████████████████████▅▅████████████████████████████████▆▄
  0.000 s                                                        0.047 s
  2 at most, 1.9 on average; a column is 0.7 ms, its height the average

By program, each from its exec or fork to its end
  program  runs  Σ time   Σ cpu  longest       memory
  make        1   47 ms  1.0 ms    47 ms       4.0 MB
  cc          2   44 ms  6.0 ms    22 ms  101  2.0 MB
  cpu: of the processes that ended in it, without their children;
  memory: of the largest, with them

Slowest, by the time without a child of their own
   alone  in all     cpu  task
   22 ms   22 ms  3.0 ms   101  cc -O2 f101.c
   22 ms   22 ms  3.0 ms   102  cc -O2 f102.c
  3.0 ms   47 ms  1.0 ms   100  make

Critical path: 47 ms in 5 steps
  Σ time        program  steps
   44 ms  93 %  cc           2
  3.0 ms   6 %  make         3

     at    took     task        after
  0.000  1.0 ms      100  make
  0.001   22 ms      101  cc    made by 100
  0.023  1.0 ms  ≈   100  make  its child 101 ended
  0.024   22 ms      102  cc    made by 100
  0.046  1.0 ms  ≈   100  make  its child 102 ended
  ≈ told by time alone: calls of read(2) and futex(2) are not traced,
  nor is wait(2) where no zombie was looked at, so what a task waited
  for is taken to be the last child, thread or writer to its pipe that
  ended before it was seen again.

If it took nothing, the whole would be shorter by at most
   saved        what
   44 ms  93 %  all of cc
   22 ms  46 %  101 cc -O2 f101.c
   22 ms  46 %  102 cc -O2 f102.c
  3.0 ms   6 %  100 make
"""


def test_the_view() -> None:
    assert "".join(f"{plain(line).rstrip()}\n" for line in time_lines(build().trace(), 72)) == VIEW


def test_without_times() -> None:
    story = Story(times=False)
    story.clone(story.begin(100), 101)
    texts = [plain(line) for line in time_lines(story.end().trace(), 80)]
    assert "Critical path: not known: the trace has no times" in texts
    assert as_json(story)["critical_path"] == {"unknown": "the trace has no times"}


def test_as_json() -> None:
    found = as_json(build())
    assert found["format"] == {"name": "forklore-time", "version": [1, 0]}
    assert found["at_once"] == [[0, 1], [1 * MS, 2], [23 * MS, 1], [24 * MS, 2], [46 * MS, 1], [47 * MS, 0]]
    assert found["programs"][1] == {
        "program": "cc", "runs": 2, "wall": 44 * MS, "cpu": 6000, "peak": 2048, "longest": 2, "longest_wall": 22 * MS,
    }  # fmt: skip
    path = found["critical_path"]
    assert path["length"] == 47 * MS == sum(step["until"] - step["since"] for step in path["steps"])
    assert path["savings"][0] == {"program": "cc", "task": None, "on_path": 44 * MS, "saved": 44 * MS}


def test_a_real_build() -> None:
    trace = built(open_any(str(MAKE)))
    texts = "\n".join(plain(line) for line in time_lines(trace, 100))
    assert "Critical path: 779 ms in 163 steps" in texts
    assert "all of cc1" in texts
    assert "7 at most" in texts
