"""Descriptors that survive, pipes that bystanders hold, and make's jobserver."""

from __future__ import annotations

from typing import Any

from happenings import MS, Story
from judged import found, one

from forklore.events import records as ev

READ, WRITE = 0, 1
LEAKS: dict[str, Any] = {"same": 0, "creators_cloexec": False}


def held(fd: int, kind: str = "file", target: str = "/var/log/x", flags: int = WRITE, **more: Any) -> ev.Held:
    return ev.Held(fd=fd, kind=kind, target=target, flags=flags, inode=77, device=1, **more)


def pipe(fd: int, flags: int, inode: int = 9, **more: Any) -> ev.Held:
    return ev.Held(fd=fd, kind="pipe", target=f"pipe:[{inode}]", flags=flags, inode=inode, **more)


def executed(
    *table: ev.Held,
    creator: str = "server",
    argv: list[str] | None = None,
    given: list[ev.Held] | None = None,
    outlives: bool = True,
    ran_for: int = 0,
) -> Story:
    """A program that executes another, which has ``table`` then."""
    story = Story()
    root = story.begin(100, comm=creator)
    story.exec(root, f"/bin/{creator}")
    if given is not None:
        story.tell(ev.Descriptors(t=story.t, task=root, table=list(given)))
    child = story.clone(root, 101)
    story.exec(child, "/bin/helper", argv=["helper", *(argv or [])])
    story.tell(ev.Descriptors(t=story.t, task=child, table=list(table), creator=root))
    story._t += ran_for
    for each in (root, child) if outlives else (child, root):
        story.exit(each)
    return story


def test_a_descriptor_that_survives_an_exec() -> None:
    wrong = one(executed(held(7, **LEAKS)), "descriptor-survived-exec")
    assert wrong.severity == "warning"
    assert wrong.first.text == (
        "file /var/log/x at 7, open in 100 server without close-on-exec, survived the exec of 101 helper, which"
        " outlived it"
    )
    assert one(executed(held(7, flags=READ, **LEAKS)), "descriptor-survived-exec").severity == "note"
    assert one(executed(held(7, "socket", "socket:[5]", **LEAKS)), "descriptor-survived-exec").severity == "warning"
    many = [held(7 + each, **LEAKS) for each in range(9)]
    long = one(executed(*many, outlives=False, ran_for=61_000 * MS), "descriptor-survived-exec")
    assert (long.severity, long.count) == ("note", 1)
    assert "file /var/log/x at 9 and 6 more, open in 100 server" in long.first.text


def test_files_in_a_helper_that_its_opener_outlives() -> None:
    files = [held(7, **LEAKS), held(8, "directory", "/var", READ, **LEAKS), held(9, "device", "/dev/null", **LEAKS)]
    assert found(executed(*files, outlives=False), "descriptor-survived-exec") == []
    files.append(held(10, "socket", "socket:[5]", **LEAKS))
    socket = one(executed(*files, outlives=False), "descriptor-survived-exec")
    assert socket.severity == "note"
    assert socket.first.text.startswith("socket:[5] at 10, open in 100 server"), socket.first.text
    assert one(executed(*files), "descriptor-survived-exec").severity == "warning", "it outlived its opener"


def test_descriptors_that_are_meant_to_survive() -> None:
    leak = held(7, **LEAKS)
    right = {
        "standard": executed(held(2, **LEAKS)),
        "its creator has it close-on-exec: the child took that away": executed(
            held(7, same=0, creators_cloexec=True)
        ),
        "moved there for it": executed(held(7, same=3, creators_cloexec=None)),
        "opened for it": executed(held(7, same=-9)),
        "its number is an argument": executed(leak, argv=["--control-fd=7"]),
        "its name is an argument": executed(leak, argv=["-o/var/log/x"]),
        "a script's": executed(leak, creator="bash"),
        "its lock": executed(leak, creator="flock"),
        "the program was started with it": executed(leak, given=[held(7)]),
    }
    for why, story in right.items():
        assert found(story, "descriptor-survived-exec") == [], why
    assert found(executed(held(63, **LEAKS), creator="bash"), "descriptor-survived-exec") == [], "<(cmd)"
    assert found(executed(held(7, **LEAKS), creator="helper"), "descriptor-survived-exec") == [], "it executes itself"
    assert found(executed(leak, argv=["17", "70"]), "descriptor-survived-exec") != []


def test_who_opened_it_is_the_first_that_did_not_inherit_it() -> None:
    story = Story()
    root = story.begin(100)
    story.exec(root, "/bin/daemon")
    one_ = story.clone(root, 101)
    story.exec(one_, "/bin/runner")
    story.tell(ev.Descriptors(t=story.t, task=one_, table=[held(7, **LEAKS)], creator=root))
    two = story.clone(one_, 102)
    story.exec(two, "/bin/tool")
    story.tell(ev.Descriptors(t=story.t, task=two, table=[held(7, **LEAKS)], creator=one_))
    wrong = one(story, "descriptor-survived-exec")
    assert wrong.count == 2
    assert wrong.others[0].text.endswith(
        "open in 100 daemon without close-on-exec, survived the exec of 102 tool, by way of 101 runner"
    )


def hanging(*, bystander_for: int, moved: bool = False, closed: bool = False, both: bool = False) -> Story:
    """``reader`` waits for the end of what ``writer`` writes; ``helper`` has the write end at 4."""
    story = Story()
    reader = story.begin(100, comm="reader")
    writer = story.clone(reader, 101)
    story.exec(writer, "/bin/writer")
    ends = [pipe(3, READ)] if closed else [pipe(3, READ), pipe(4, WRITE)]
    story.tell(ev.Descriptors(t=story.t, task=writer, table=[pipe(1, WRITE)], creator=reader, creators_pipes=ends))
    helper = story.clone(reader, 102)
    story.exec(helper, "/bin/helper")
    how = {"same": -9} if closed else {"same": 3} if moved else LEAKS
    table = [pipe(4, WRITE, **how), *([pipe(3, READ, **how)] if both else [])]
    story.tell(ev.Descriptors(t=story.t, task=helper, table=table, creator=reader, creators_pipes=ends))
    if bystander_for < 0:
        story.exit(helper)
    story.exit(writer)
    story._t += bystander_for
    if bystander_for >= 0:
        story.exit(helper)
    story.exit(reader)
    return story.end()


def test_a_pipe_that_a_bystander_holds() -> None:
    waited = one(hanging(bystander_for=3000 * MS), "pipe-held-by-bystander")
    assert waited.severity == "error"
    assert waited.first.text == (
        "100 reader could not see the end of the data in pipe:[9]: 102 helper held its write end, which survived its"
        " exec, for 3.0 s after all others that held it had ended"
    )
    short = one(hanging(bystander_for=1), "pipe-held-by-bystander")
    assert short.severity == "warning"
    assert "102 helper held its write end, which survived its exec, for 1.0 ms" in short.first.text
    assert found(hanging(bystander_for=-1), "pipe-held-by-bystander") == [], "it made no difference"
    assert found(hanging(bystander_for=3000 * MS), "descriptor-survived-exec") == [], "it is told once"


def test_a_pipe_that_its_creator_closed_before_the_exec_could_be_looked_at() -> None:
    """Whether it had it when it forked is not known: who holds both ends, or for long, was hardly meant to."""
    for story in (hanging(bystander_for=3000 * MS, closed=True), hanging(bystander_for=1, closed=True, both=True)):
        assert not one(story, "pipe-held-by-bystander").first.sure
        assert found(story, "descriptor-survived-exec") == []
    assert found(hanging(bystander_for=1, closed=True), "pipe-held-by-bystander") == []


def test_a_pipe_whose_ends_are_where_they_belong() -> None:
    assert found(hanging(bystander_for=3000 * MS, moved=True), "pipe-held-by-bystander") == []
    alone = executed(pipe(4, WRITE, **LEAKS))
    assert found(alone, "pipe-held-by-bystander") == [], "nobody waits"
    assert found(alone, "descriptor-survived-exec") != []


def test_a_copy_that_a_forked_child_kept() -> None:
    """It executes nothing itself: its table is seen when a child of its own does."""
    story = Story()
    reader = story.begin(100, comm="reader")
    writer = story.clone(reader, 101)
    story.exec(writer, "/bin/writer")
    ends = [pipe(3, READ), pipe(4, WRITE)]
    story.tell(ev.Descriptors(t=story.t, task=writer, table=[pipe(1, WRITE)], creator=reader, creators_pipes=ends))
    worker = story.clone(reader, 102)
    tool = story.clone(worker, 103)
    story.exec(tool, "/bin/tool")
    story.tell(ev.Descriptors(t=story.t, task=tool, table=[pipe(5, READ, 8)], creator=worker, creators_pipes=ends))
    story.exit(tool)
    story.exit(writer)
    story._t += 2000 * MS
    story.exit(worker)
    story.exit(reader)
    wrong = one(story.end(), "pipe-held-by-bystander")
    assert not wrong.first.sure
    assert "102 reader held its write end, which it got by fork, for 2.0 s" in wrong.first.text


def built(*, top: list[str], jobs: bool = False, table: list[ev.Held] | None = None, overlap: bool = False) -> Story:
    story = Story()
    root = story.begin(100)
    story.exec(root, "/usr/bin/make", argv=["make", *top])
    shell = story.clone(root, 101)
    story.exec(shell, "/bin/sh", argv=["sh", "-c", "make -C lib"])
    below = story.clone(shell, 102)
    story.exec(below, "/usr/bin/make", argv=["make", "-C", "lib", *(["-j4"] if jobs else [])])
    if table is not None:
        story.tell(ev.Descriptors(t=story.t, task=below, table=table, creator=shell))
    children = []
    for each in range(3):
        child = story.clone(below, 200 + each)
        story.exec(child, "/usr/bin/cc", argv=["cc", f"{each}.c"])
        children.append(child)
        if not overlap:
            story.exit(children.pop())
    for child in children:
        story.exit(child)
    return story.end()


def test_a_jobserver_that_make_lost() -> None:
    for option in (["-j8"], ["-j", "8"], ["-kj8"], ["--jobs=8"]):
        wrong = one(built(top=option), "jobserver-lost")
        assert "102 make ran 3 commands one after the other, below 100 make with -j8" in wrong.first.text
        assert not wrong.first.sure
    fds = [pipe(3, READ, **LEAKS), pipe(4, WRITE, **LEAKS)]
    right = [built(top=["-j8"], table=fds), built(top=[]), built(top=["-j1"]), built(top=["-j8"], jobs=True)]
    for story in (*right, built(top=["-j8"], overlap=True)):
        assert found(story, "jobserver-lost") == []
    assert found(built(top=["-j8"], table=fds), "descriptor-survived-exec") == [], "make's jobserver is meant"
    one_end = built(top=["-j8"], table=[pipe(251, WRITE, **LEAKS)])
    assert found(one_end, "jobserver-lost") != [], "a pipe that is somebody's output is no jobserver"
