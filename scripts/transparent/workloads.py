"""Lists of programs to be compared: what each runs, as whom, and what it needs to be installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from transparent.packaged import bash_tests, perl_tests
from transparent.workload import Workload, lacks

SCRIPTS: Final = Path(__file__).resolve().parent.parent
PROGRAMS: Final = SCRIPTS.parent / "tests" / "live"


def _shell(name: str, script: str, **how: object) -> Workload:
    return msgspec.convert({"name": name, "command": ("sh", "-c", script), **how}, Workload)


def coreutils() -> list[Workload]:
    """What Debian's essential tools do with processes, signals and files."""
    scripts = {
        "ls": "ls -la /etc | head -50 | sort | cut -c1-10 | uniq -c",
        "files": "mkdir a; echo x > a/f; cp -a a b; mv b c; ln c/f c/g; stat -c '%h %a %u' c/*; rm -r a c; ls",
        "sums": "seq 1 5000 | tee >(cat) | sha256sum; seq 100 | shuf --random-source=/etc/passwd | md5sum",
        "timeout": "timeout 0.2 sleep 9; echo $?; timeout -s KILL 0.2 sleep 9; echo $?; timeout 5 false; echo $?; "
        "timeout --foreground 0.2 cat; echo $?",
        "nohup": "nohup ls / ; cat nohup.out; nice -n 5 nice; env -i A=1 env; env --default-signal=PIPE true; echo $?",
        "env": "env --ignore-signal=PIPE --list-signal-handling true; "
        "env --block-signal=USR1 sh -c 'grep Sig /proc/$$/status'",
        "sleepers": "sleep 9 & kill $!; wait $!; echo $?; sleep 9 & kill -9 $!; wait $!; echo $?; "
        "(kill -ABRT $$) ; echo no",
        "pipes": "yes | head -1; seq 100000 | head -1; dd if=/dev/zero bs=1 count=10000 2>/dev/null | wc -c; "
        "split -n l/3 --filter='wc -l' /etc/passwd; sort -S 1M --parallel=2 /etc/services | tail -1; "
        "xargs -P 3 -n 1 echo <"
        "/etc/hostname; seq 20 | xargs -P 4 -n 3 sh -c 'exit 0'; "
        "find /etc -maxdepth 1 -name 'p*' -exec basename {} ';' | sort",
        "missing": "/nonexistent; echo $?; /etc/passwd; echo $?; env nonexistent; echo $?; sh -c 'exit 77'; echo $?",
        "chroot": "chroot / /bin/sh -c 'id -u; pwd'; stdbuf -oL echo x; tty; whoami; nproc; groups; "
        "pinky -l root | head -1",
        "tools": "setsid -w sh -c 'exit 4'; echo $?; flock f sh -c 'exit 5'; echo $?; "
        "prlimit --nofile=99 sh -c 'ulimit -n'; "
        "unshare -m true; echo $?; unshare -Upf --mount-proc sh -c 'echo $$; ps ax | wc -l'; taskset 1 nproc; "
        "chrt -b 0 true",
    }  # fmt: skip
    root = [
        msgspec.convert({"name": f"coreutils {name}", "command": ("bash", "-c", script)}, Workload)
        for name, script in scripts.items()
    ]
    return root + [
        msgspec.structs.replace(work, name=f"{work.name} as a user", user=True)
        for work in root
        if work.name.rpartition(" ")[2] in ("timeout", "sleepers", "pipes", "env", "tools")
    ]


_PYTHON_TESTS: Final = (
    "test_subprocess", "test_os", "test_signal", "test_fork1", "test_wait3", "test_wait4", "test_posix", "test_pty",
    "test_popen", "test_thread", "test_threading", "test_threadsignals", "test_faulthandler", "test_eintr",
    "test_multiprocessing_fork", "test_multiprocessing_spawn", "test_multiprocessing_forkserver",
    "test_multiprocessing_main_handling", "test_threading_local", "test_threadedtempfile", "test_cmd_line",
    "test_concurrent_futures", "test_select", "test_poll", "test_epoll", "test_selectors", "test_resource",
    "test_ioctl", "test_openpty", "test_tempfile", "test_mailbox", "test_fcntl", "test_asyncio.test_subprocess",
    "test_asyncio.test_unix_events",
)  # fmt: skip


_RESULTS: Final = """
import os, subprocess, sys, xml.etree.ElementTree
results, output = (os.path.join(os.getcwd(), name) for name in ("results", "output"))
with open(output, "wb") as file:
    code = subprocess.call(
        [sys.executable, "-m", "test", "-v", "--junit-xml", results, sys.argv[1]], stdout=file, stderr=file
    )
cases = xml.etree.ElementTree.parse(results).iter("testcase")
said = {"failure", "error", "skipped"}
print(*sorted(" ".join((case.get("name"), *sorted({e.tag for e in case} & said))) for case in cases), sep="\\n")
print("exit", code)
if code:
    sys.stderr.write(open(output, errors="replace").read())
"""
"""Runs a test file and says how each test of it ended: what tests print themselves is new in each run."""


def python() -> list[Workload]:
    """The interpreter's own tests of processes, signals and threads, a file each."""
    lists = []
    for name in _PYTHON_TESTS:
        interpreter = _python_with(name)
        needs = "" if interpreter else "no python with that test (Debian: apt install libpython3-testsuite)"
        lists.append(
            Workload(
                f"python {name}", (interpreter or "python3", "-c", _RESULTS, name), needs=needs, limit=900.0,
                environment={"PYTHONDONTWRITEBYTECODE": "1"},
            )
        )  # fmt: skip
    return lists


def _python_with(test: str) -> str | None:
    version = f"python3.{sys.version_info.minor}"
    for prefix in ("/usr", sys.base_prefix):
        file = Path(prefix, "lib", version, "test", *test.split("."))
        interpreter = Path(prefix, "bin", version)
        if interpreter.exists() and (file.with_suffix(".py").exists() or file.is_dir()):
            return str(interpreter)
    return None


def perl() -> list[Workload]:
    """Perl's process calls, and its own tests of them."""
    scripts = {
        "fork": 'for my $i (1..20) { my $p = fork; if (!$p) { exit $i } waitpid $p, 0; print "$i ", $? >> 8, "\\n" } '
        'print wait, " $! \\n";',
        "pipe open": 'open my $f, "-|", "seq 5" or die; print while <$f>; close $f; print "$?\\n"; '
        'open $f, "|-", "cat; exit 3" or die; print $f "x\\n"; close $f; print $? >> 8, "\\n"',
        "signals": '$SIG{CHLD} = sub { while ((my $p = waitpid -1, 1) > 0) { $n++ } }; for (1..20) { fork or exit } '
        'select undef, undef, undef, 0.05 while $n < 20; print "$n\\n"; $SIG{ALRM} = sub { die "alarm\\n" }; '
        'eval { alarm 1; sleep 9 }; print $@; print system("kill -9 \\$\\$"), " $?\\n"; kill "TERM", $$; sleep 1',
        "ignored": '$SIG{CHLD} = "IGNORE"; for (1..9) { fork or exit 3 } my $w = wait; print "$w $!\\n"; '
        'print system("true"), " $!\\n"',
        "exec": 'system { "sh" } "other", "-c", "echo \\$0; exit 9"; print $? >> 8, "\\n"; print `echo backquoted`; '
        'exec "nonexistent" or print "$!\\n"; exec "sh", "-c", "exit 6"',
    }  # fmt: skip
    needs = lacks("perl", "perl")
    own = [Workload(f"perl {name}", ("perl", "-e", script), needs=needs) for name, script in scripts.items()]
    return own + perl_tests()


def bash() -> list[Workload]:
    """Bash's job control, on a terminal, traps, coprocesses and substitutions; and its own tests."""
    scripts = {
        "traps": "trap 'echo usr1' USR1; kill -USR1 $$; trap 'echo chld' CHLD; sleep 0 & wait; trap 'echo exit' EXIT; "
        "(trap 'echo sub' EXIT); trap -p; kill -TERM $$; echo no",
        "jobs": "sleep 9 & sleep 8 & jobs; kill %1; wait %1; echo $?; kill -STOP %2; jobs; kill -KILL %2; "
        "wait %2; echo $?",
        "wait": "for i in 1 2 3; do (exit $i) & done; wait -n; wait; (exit 7) & wait $!; echo $?; wait -n; echo $?",
        "coproc": "coproc cat; echo x >&${COPROC[1]}; read -r y <&${COPROC[0]}; echo $y; kill $COPROC_PID; wait; "
        "echo $?",
        "substitutions": "diff <(seq 5) <(seq 6); echo $(echo $(echo $(echo deep))); cat < <(echo in); "
        "echo x > >(cat); wait",
        "pipestatus": "false | true | (exit 3) | kill -9 $BASHPID; echo ${PIPESTATUS[*]}; set -o pipefail; "
        "false | true; "
        "echo $?; shopt -s lastpipe; echo a | read -r b; echo $b",
        "limits": "ulimit -a; ulimit -c 0; (ulimit -n 20; exec sh -c 'ulimit -n'); ulimit -t 1; (while :; do :; "
        "done); echo $?",
        "sigint": "bash -c 'trap \"echo int\" INT; kill -INT $$; sleep 0'; bash -c 'kill -INT $$'; echo $?; bash -c "
        "'kill -QUIT $$'; echo $?; bash -c 'kill -SEGV $$'; echo $?",
        "disown": "sleep 0.3 & disown; (sleep 0.2 & ) ; setsid sleep 0.1; exec -a other sleep 0",
    }  # fmt: skip
    control = (
        "set -m; sleep 9 & kill -STOP %1; wait %1; echo $?; kill -9 %1; wait %1; echo $?; sleep 0.1; fg; "
        "sh -c 'kill -STOP $$; echo went on' & wait $!; echo $?; bg; wait; echo $?; tty -s; echo $?; "
        "sh -c 'kill -TSTP 0; echo on again'; echo $?; fg; echo $?; ps -o stat= -p $$; jobs; :"
    )
    lists = [Workload(f"bash {name}", ("bash", "-c", script)) for name, script in scripts.items()]
    lists.append(Workload("bash job control", ("bash", "-ic", control), terminal=True, limit=30.0))
    return lists + bash_tests()


def node() -> list[Workload]:
    """Node's child_process, cluster and worker_threads."""
    scripts = {
        "exec": "const c=require('child_process');console.log(c.execSync('echo hi')+'');"
        "console.log(c.spawnSync('sh',['-c','exit 3']).status,c.spawnSync('sh',['-c','kill -9 $$']).signal,"
        "c.spawnSync('nonexistent').error.code)",
        "spawn": "const c=require('child_process');for(let i=0;i<9;i++)c.spawn('sh',['-c','exit '+i]).on('exit',"
        "(x,s)=>console.log(x,s));const k=c.spawn('sleep',['99']);k.on('exit',(x,s)=>console.log(x,s));k.kill()",
        "fork": "const c=require('child_process');if(process.argv[1]!=='x'&&!process.send){"
        "const k=c.spawn(process.execPath,['-e','process.on(\"message\",m=>{process.send(m*2);process.disconnect()})'],"
        "{stdio:['inherit','inherit','inherit','ipc']});k.on('message',m=>console.log(m));k.send(21);"
        "k.on('exit',x=>console.log(x))}",
        "workers": "const w=require('worker_threads');let n=0;for(let i=0;i<4;i++)new w.Worker("
        "'require(\"worker_threads\").parentPort.postMessage(1)',{eval:true}).on('exit',c=>{console.log(c);n++})",
        "signals": "process.on('SIGUSR2',()=>{console.log('usr2');process.kill(process.pid,'SIGTERM')});"
        "setTimeout(()=>{},9999);process.kill(process.pid,'SIGUSR2')",
    }
    needs = lacks("node", "nodejs")
    return [Workload(f"node {name}", ("node", "-e", script), needs=needs) for name, script in scripts.items()]


_JAVA: Final = """
import java.util.concurrent.*;
public class Guest {
    public static void main(String[] words) throws Exception {
        for (int i = 0; i < 5; i++)
            System.out.println(new ProcessBuilder("sh", "-c", "exit " + i).start().waitFor());
        Process killed = new ProcessBuilder("cat").start();
        killed.getOutputStream().write(10);
        killed.getOutputStream().flush();
        killed.getInputStream().read();
        System.out.println(killed.isAlive() + " " + killed.destroyForcibly().waitFor());
        System.out.println(new String(new ProcessBuilder("echo", "out").start().getInputStream().readAllBytes()));
        try { new ProcessBuilder("/nonexistent").start(); } catch (java.io.IOException e) {
            System.out.println("missing");
        }
        ExecutorService pool = Executors.newFixedThreadPool(5);
        long sum = 0;
        for (int i = 0; i < 50; i++) { final int n = i; sum += pool.submit(() -> n).get(); }
        pool.shutdown();
        System.out.println(sum + " " + ProcessHandle.current().children().count());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
        ProcessHandle.current().destroy();
    }
}
"""


def java() -> list[Workload]:
    """Java's Process, by jspawnhelper (posix_spawn), vfork and fork."""
    needs = lacks("java", "default-jdk-headless")
    script = 'cat > Guest.java; java -Xshare:auto -Djdk.lang.Process.launchMechanism="$0" Guest.java < /dev/null'
    feed = f"cat <<'END' | sh -c '{script}' \"$0\"\n{_JAVA}END\n"
    return [
        Workload(f"java {how}", ("sh", "-c", feed, how), needs=needs, limit=120.0)
        for how in ("POSIX_SPAWN", "VFORK", "FORK")
    ]


def postgres() -> list[Workload]:
    """A cluster made, started, asked by several connections, one of them killed, and stopped."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    try:
        import pwd

        uid = pwd.getpwnam("postgres").pw_uid
    except KeyError:
        uid = None
    needs = "" if folders and uid is not None else "no postgres on this machine (Debian: apt install postgresql)"
    script = """
    export PGDATA=$PWD/data PGHOST=$PWD PGDATABASE=postgres LC_ALL=C
    initdb -A trust --no-sync > /dev/null
    pg_ctl -s -w -o "-c listen_addresses= -c unix_socket_directories=$PWD -F" -l log start
    psql -Atc 'select sum(n) from generate_series(1, 1000) n'
    for i in 1 2 3 4; do psql -Atc "select $i" & done | sort; wait
    psql -Atqc 'create table t as select n from generate_series(1, 20000) n' -c 'set force_parallel_mode=on' \\
        -c 'select count(*) from t'
    psql -Atc 'select pg_terminate_backend(pg_backend_pid())' 2>&1 | head -1
    psql -Atc "set statement_timeout = '100ms'" -c 'select pg_sleep(9)' 2>&1
    pgbench -i -q -s 1 > /dev/null 2>&1; pgbench -c 4 -j 2 -t 25 2>/dev/null | grep processed
    pg_ctl -s -w reload; pg_ctl -s -w -m fast stop; sed 's/^[^[]*\\[[0-9]*\\]//' log | grep -c FATAL; pg_ctl status
    """
    path = os.pathsep.join([*(str(folder) for folder in folders[-1:]), os.environ.get("PATH", os.defpath)])
    return [Workload("postgres", ("sh", "-c", script), uid=uid, needs=needs, environment={"PATH": path})]


_STRESSORS: Final = (
    "fork", "vfork", "clone", "pthread", "exec", "spawn", "zombie", "kill", "session", "seccomp", "daemon",
    "vforkmany", "unshare", "netlink-proc", "netlink-task", "kcmp", "cap",
    "nice", "ioprio", "landlock", "pty", "sleep", "signal", "signest", "sigchld", "sigfpe", "sigq", "sigsegv",
    "sigtrap", "sigsuspend", "sigpending", "sigfd", "sigrt", "sigabrt", "sigio", "sigpipe", "bad-altstack",
    "context", "longjmp", "priv-instr", "misaligned", "stack", "vm-segv", "dnotify", "hrtimers", "io-uring",
    "membarrier", "mutex", "race-sched", "ring-pipe", "fifo", "flock", "lease", "lockofd", "shm",
    "sockmany", "sockfd", "munmap", "wait", "pidfd", "ptrace", "schedpolicy", "exit-group", "prctl", "personality",
    "getrandom", "set", "nanosleep", "timer", "timerfd", "itimer", "clock", "alarm", "futex", "eventfd", "epoll",
    "poll", "mq", "sem", "sem-sysv", "msg", "tee", "pipe", "chroot", "close", "dup", "enosys", "env", "resched",
    "switch", "tun", "userfaultfd", "yield", "affinity", "sockpair", "usersyscall", "vm-rw",
    "procfs", "loadavg", "key",
)  # fmt: skip
"""Not those that fill the whole machine's disk or memory (forkheavy, resources, mmapfork)."""
_NOT_AS_ROOT: Final = frozenset({"exec", "spawn"})
_OPERATIONS: Final = MappingProxyType({"mutex": 10**7, "sem": 10**7})
"""Where 40 are too few: a first thread that does them all before its creator goes on is reported as a failure."""


def stress() -> list[Workload]:
    """stress-ng's stressors of processes, signals and what interrupts them, a moment of one instance each."""
    named: list[tuple[str, tuple[str, ...]]] = [(name, ()) for name in _STRESSORS]
    named += [("exec", ("--exec-fork-method", how)) for how in ("clone", "fork", "spawn", "vfork")]
    lacking = lacks("stress-ng", "stress-ng")
    known = "" if lacking else subprocess.check_output(["stress-ng", "--stressors"], text=True)
    return [
        Workload(
            " ".join(("stress-ng", name, *how[1:])),
            (
                "stress-ng", f"--{name}", "1", f"--{name}-ops", str(_OPERATIONS.get(name, 40)), "-t", "5", "--verify",
                "--oom-avoid", *how,
            ),
            needs=lacking or ("" if name in known.split() else "this stress-ng has no such stressor"),
            witness=False, limit=60.0, user=name in _NOT_AS_ROOT,
        )
        for name, how in named
    ]  # fmt: skip


def guests(words: str = "guest_") -> list[Workload]:
    """The programs of ``tests/programs`` that behave as a guest may, as root and as an ordinary user."""
    sys.path.insert(0, str(PROGRAMS))
    from programs import BARE, NOTICES, Missing, build

    lists: list[Workload] = []
    for name, every in BARE.items():
        if not name.startswith(words) or (words == "" and name.startswith("guest_")):
            continue
        try:
            program, needs = str(build(name)), ""
        except Missing as missing:
            program, needs = name, str(missing)
        for arguments in (*every, *NOTICES.get(name, ())):
            work = Workload(" ".join((name, *arguments)), (program, *arguments), needs=needs, limit=30.0)
            lists.append(work)
            if words:
                lists.append(msgspec.structs.replace(work, name=f"{work.name} as a user", user=True))
    return lists


def programs() -> list[Workload]:
    """All other programs of ``tests/programs``."""
    return guests("")


def debuggers() -> list[Workload]:
    """Programs that trace others themselves."""
    leak = (
        "cat > l.c <<'END'\n#include <stdlib.h>\nint main(void) { char *volatile p = malloc(7); p = 0; return 0; "
        "}\nEND\n"
        "gcc -fsanitize=address -g l.c -o l && ASAN_OPTIONS=detect_leaks=1 ./l 2>&1 | sed 's/==[0-9]*==//'"
    )
    crash = "ulimit -c 0; gdb -q -batch -ex run -ex bt --args sh -c 'exit 3'"
    scripts = {
        "gdb": (crash, lacks("gdb", "gdb")),
        "gdb attach": ("sleep 3 & gdb -q -batch -p $! -ex detach 2>&1 | tail -1; kill $!", lacks("gdb", "gdb")),
        "strace": ("strace -f -o out sh -c 'true & wait'; echo $?; grep -c exited out", lacks("strace", "strace")),
        "leak checker": (leak, lacks("gcc", "gcc libc6-dev")),
        "bwrap": (
            "bwrap --dev-bind / / --unshare-all --die-with-parent sh -c 'echo $$; id -u'",
            lacks("bwrap", "bubblewrap"),
        ),
        "setpriv": (
            "setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --pdeathsig KILL id",
            lacks("setpriv", "util-linux"),
        ),
        "su": ("su -s /bin/sh nobody -c 'id -un; exit 3'; echo $?", lacks("su", "util-linux")),
        "set-id as a user": ("passwd -S; echo $?; chage -l nobody | head -1; echo $?", lacks("passwd", "passwd")),
        "script": ("script -qec 'tty -s; echo $?; exit 4' /dev/null; echo $?", lacks("script", "bsdutils")),
    }  # fmt: skip
    # The leak checker refuses to run where another library is loaded before it.
    return [
        _shell(name, script, needs=needs, witness=name != "leak checker", user=name.endswith("as a user"))
        for name, (script, needs) in scripts.items()
    ]


_PAGE: Final = "<p id=x>before</p><script>document.getElementById('x').textContent = 6 * 7</script>"
_BROWSES: Final = """
home=$(mktemp -d); chown 65534 "$home"; echo "$0" >"$home/page.html"
HOME=$home setpriv --reuid=65534 --regid=65534 --clear-groups chromium --headless --no-first-run --disable-gpu "$@" \\
  --dump-dom "file://$home/page.html" 2>"$home/errors"
echo $?; grep -i sandbox "$home/errors"; rm -rf "$home"
"""


def tracers() -> list[Workload]:
    """What ptrace cannot serve: programs that trace others, and sandboxes whose helper is a set-user-ID program."""
    needs = lacks("chromium", "chromium chromium-sandbox") or ("" if os.geteuid() == 0 else "only root can be others")
    browsers = {"user namespaces": (), "its set-user-ID helper": ("--disable-namespace-sandbox",)}
    return [
        Workload("strace", ("strace", "-f", "-qq", "-e", "trace=execve,exit_group", "sh", "-c", "true; ls /; true"),
                 witness=False, needs=lacks("strace", "strace")),
        Workload("gdb", ("gdb", "-nx", "-q", "-batch", "-ex", "run", "--args", "sh", "-c", "ls /; exit 3"),
                 witness=False, needs=lacks("gdb", "gdb")),
        *(
            Workload(f"chromium with {name}", ("sh", "-c", _BROWSES, _PAGE, *more), witness=False, needs=needs)
            for name, more in browsers.items()
        ),
    ]  # fmt: skip


LISTS: Final[Mapping[str, Callable[[], list[Workload]]]] = MappingProxyType(
    {
        "guests": guests, "programs": programs, "debuggers": debuggers, "coreutils": coreutils, "bash": bash,
        "perl": perl, "node": node, "java": java, "postgres": postgres, "stress": stress, "python": python,
        "tracers": tracers,
    }
)  # fmt: skip
"""Every list by its name, the quick ones first."""
