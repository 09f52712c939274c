"""Memory that is mapped from a file whose server has gone silent: nothing that forklore reads there holds it."""

from __future__ import annotations

import platform
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fuse_server import served
from test_strangers_files import SILENCES, Prefix, Run, in_time, until_status
from test_strangers_files import who as who
from tracing import ENVIRONMENT, TIMEOUT

from forklore.events import jsonl
from forklore.events import records as ev

TEXT = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long made_by_code(char *frame)
{
	/* push %rbp; mov %rdi,%rbp; mov $57,%eax; syscall; pop %rbp; ret: fork(2), with the frame pointer at "frame" */
	static const unsigned char code[] = {0x55, 0x48, 0x89, 0xfd, 0xb8, 57, 0, 0, 0, 0x0f, 0x05, 0x5d, 0xc3};
	unsigned char *made = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(made, code, sizeof code);
	return ((long (*)(char *))made)(frame);
}

int main(int argc, char **argv)
{
	char line[8], *nothing[] = {0};
	int fd = open(argv[2], O_RDONLY);
	char *map = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	if (argc < 3 || map == MAP_FAILED || write(1, "ready\n", 6) != 6 || read(0, line, sizeof line) < 0)
		return 1;
	map += 1 << 19;
	if (!strcmp(argv[1], "frame")) {
		if (made_by_code(map) == 0)
			_exit(3);
		wait(0);
	} else if (!strcmp(argv[1], "vfork")) {
		if (vfork() == 0)
			_exit(3);
		wait(0);
	} else if (!strcmp(argv[1], "struct"))
		syscall(SYS_clone3, map, 88);
	else if (!strcmp(argv[1], "path"))
		execve(map, nothing, nothing);
	else
		execve("/bin/true", (char **)map, nothing);
	return 7;
}
"""


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    if platform.machine() != "x86_64":
        pytest.skip("the program has code for x86_64")
    with TemporaryDirectory(prefix="forklore-mapped-") as name:  # not in tmp_path, which other users cannot look into
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "mapped.c").write_text(TEXT)
        subprocess.run(["gcc", "-O1", "-o", folder / "mapped", folder / "mapped.c"], check=True)
        yield folder / "mapped"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "data").write_bytes(b"x" * (1 << 20))
    return folder


@pytest.mark.parametrize("silence", [*SILENCES, ""])
@pytest.mark.parametrize("way", ["frame", "vfork"])
def test_what_the_program_itself_never_touches(
    way: str, silence: str, program: Path, source: Path, who: tuple[Path, Prefix]
) -> None:
    """A frame pointer leads there, or all memory is compared that a vfork child could write."""
    (who[0] / "mount").mkdir()
    with served(who[0] / "mount", source) as mounted:
        verb = ["--vfork-writes"] if way == "vfork" else []
        run = Run(who[1], who[0], program, way, str(mounted.place / "data"), verb=verb)
        run.until("ready")
        if silence:
            mounted.become(silence)
        began = time.monotonic()
        run.go()
        assert run.ended() == (7, "", "")
        assert in_time(began)
    events = list(jsonl.read(run.trace))
    assert [event.status for event in events if isinstance(event, ev.Exit)] == [3 << 8, 7 << 8]
    left_out = [each.why for event in events if isinstance(event, ev.Borrowed) for each in event.left_out]
    assert bool(left_out) is (way == "vfork")
    assert all("a server answers for its file" in why for why in left_out)


@pytest.mark.parametrize("silence", SILENCES)
@pytest.mark.parametrize("what", ["struct", "path", "argv"])
@pytest.mark.parametrize("how", ["SIGINT", "--duration"])
def test_a_call_that_is_given_it(
    how: str, what: str, silence: str, program: Path, source: Path, who: tuple[Path, Prefix]
) -> None:
    """The program waits for the server in its call, as alone; forklore does not, and leaves when it is asked."""
    (who[0] / "mount").mkdir()
    prefix = list(who[1][: list(who[1]).index("env")]) if "env" in who[1] else []
    trace = who[0] / "attached.jsonl"
    with served(who[0] / "mount", source) as mounted:
        command = [*prefix, str(program), what, str(mounted.place / "data")]
        guest = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert guest.stdout is not None
            assert guest.stdin is not None
            assert guest.stdout.readline() == "ready\n"
            seconds = 2 if how == "--duration" else 0
            more = ["--duration", str(seconds)] if seconds else []
            words = [*who[1], "attach", "-q", *more, "-o", str(trace), str(guest.pid)]
            with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as attached:
                until_status(guest.pid, lacks="TracerPid:\t0\n")
                mounted.become(silence)
                began = time.monotonic()
                guest.stdin.write("\n")
                guest.stdin.flush()
                _until_in_the_call(guest.pid, attached.pid)
                if how == "SIGINT":
                    began = time.monotonic()
                    attached.send_signal(signal.SIGINT)
                assert attached.communicate(timeout=TIMEOUT)[1] == ""
                assert attached.returncode == 0
                assert in_time(began, seconds)
        finally:
            guest.kill()
    guest.communicate(timeout=TIMEOUT)  # the server is gone: nothing waits for it any more


def _until_in_the_call(pid: int, tracer: int) -> None:
    # It is held no more by its tracer, which has looked at the call, and waits in the kernel.
    deadline = time.monotonic() + TIMEOUT
    while True:
        where = Path(f"/proc/{pid}/wchan").read_text()
        if where in ("request_wait_answer", "folio_wait_bit_common") or "fuse" in where:
            return
        assert time.monotonic() < deadline, (where, tracer)
        time.sleep(0.002)
