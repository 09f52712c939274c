"""What is done again and again."""

from __future__ import annotations

from happenings import MS, Story
from judged import found, one


def searched(misses: int, programs: int = 1, *, found_at_last: bool = True) -> Story:
    story = Story()
    root = story.begin(100, comm="env")
    for each in range(programs):
        child = story.clone(root, 101 + each)
        for folder in range(misses):
            story.exec_fail(child, f"/opt/{folder}/tool")
        if found_at_last:
            story.exec(child, "/usr/bin/tool", argv=["tool", str(each)])
        story.exit(child, 0 if found_at_last else 127)
    return story


def test_long_searches() -> None:
    long = one(searched(12), "exec-searched-path")
    assert long.severity == "note"
    assert "12 execs failed before 1 program started by 100 env" in long.first.text
    assert one(searched(3, 80), "exec-searched-path").first.text.startswith("240 execs failed before 80 programs")
    for right in (searched(3), searched(3, 20), searched(12, found_at_last=False)):
        assert found(right, "exec-searched-path") == []


def many(count: int, apart: int, *, threads: bool = False, lives: int = 0) -> Story:
    story = Story()
    root = story.begin(100, comm="app")
    for each in range(count):
        make = story.thread if threads else story.clone
        child = make(root, 101 + each)
        story._t += lives
        story.exit(child)
        story._t += apart
    return story


def test_storms_of_processes() -> None:
    storm = one(many(300, 0), "spawn-storm")
    assert "100 app made 300 processes in 598 ms, 1.0 ms each in the middle" in storm.first.text
    assert found(many(300, 100 * MS), "spawn-storm") == []
    assert found(many(50, 0), "spawn-storm") == []
    assert found(many(300, 0, threads=True), "spawn-storm") == []


def test_churning_threads() -> None:
    churn = one(many(300, 0, threads=True), "thread-churn")
    assert "100 app made 300 threads that lived for 1.0 ms in the middle" in churn.first.text
    assert found(many(300, 0, threads=True, lives=50 * MS), "thread-churn") == []
    assert found(many(100, 0, threads=True), "thread-churn") == []


def shells(line: str, count: int = 12, *, forks: int = 0) -> Story:
    story = Story()
    root = story.begin(100, comm="app")
    for each in range(count):
        shell = story.clone(root, 1000 * (each + 1))
        story.exec(shell, "/bin/sh", argv=["sh", "-c", line.replace("@", str(each))])
        if forks:
            for number in range(forks):
                child = story.clone(shell, 1000 * (each + 1) + number + 1)
                story.exec(child, "/bin/ls", argv=["ls", str(each)])
                story.exit(child)
        else:
            story.exec(shell, "/bin/ls", argv=["ls", str(each)])
        story.exit(shell)
    return story


def test_shells_that_only_execute() -> None:
    wrong = one(shells("ls -l @"), "shell-only-execs")
    assert "100 app started 12 shells that did nothing but execute one command of plain words" in wrong.first.text
    assert "sh -c 'ls -l 0'" in wrong.first.text
    assert found(shells("ls -l @", forks=1), "shell-only-execs") != []
    for right in (shells("ls -l @ | sort"), shells("ls > @"), shells("ls @", 3), shells("ls @", forks=2)):
        assert found(right, "shell-only-execs") == []


def repeated(count: int, *, alike: bool = True) -> Story:
    story = Story()
    root = story.begin(100, comm="app")
    for each in range(count):
        child = story.clone(root, 101 + each)
        story.exec(child, "/usr/bin/git", argv=["git", "rev-parse", "HEAD" if alike else str(each)])
        story.exit(child)
    return story


def test_one_command_again_and_again() -> None:
    wrong = one(repeated(25), "same-command-again")
    assert wrong.first.text == "100 app ran the same command 25 times, 50 ms together: git rev-parse HEAD"
    assert found(repeated(25, alike=False), "same-command-again") == []
    assert found(repeated(5), "same-command-again") == []
