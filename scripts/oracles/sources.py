"""The programs of the suite, as text.

Each uses what its name says, waits for all that it starts, and does the same in every run.
"""

from __future__ import annotations

from typing import Final

SHELL: Final = """\
printf 'c\\na\\nb\\n' | sort | tr a-z A-Z | tail -n 1
for word in one two three; do echo "$word" | cat; done
x=$(echo inner; (exit 3); echo $?)
( sleep 0 & wait $! )
sh -c 'kill -TERM $$'
exec cat /dev/null
"""

MAKEFILE: Final = """\
objects = {objects}
program: $(objects)
\tgcc -o $@ $(objects)
\t./$@
%.o: %.c
\tgcc -O1 -c -o $@ $<
"""

GIT: Final = """\
set -e
export HOME="$PWD" GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_DATE='2024-01-01T00:00:00Z' GIT_COMMITTER_DATE='2024-01-01T00:00:00Z'
git init -q -b main repository
cd repository
git config user.name Example
git config user.email example@example.org
git config gc.auto 0
git config maintenance.auto false
for n in 1 2 3; do
    echo "line $n" >> file
    git add file
    git commit -q -m "change $n"
done
git log --oneline --stat | cat
git gc -q
git fsck
"""

PYTHON_SUBPROCESS: Final = """\
import os
import subprocess

subprocess.run(["true"], check=True)
subprocess.run(["/bin/true"], close_fds=False, check=True)
subprocess.run("echo a | cat; false", shell=True, stdout=subprocess.DEVNULL)
subprocess.run(["true"], preexec_fn=os.getpid, check=True)
os.system("exit 5")
os.popen("echo popen").read()
child = os.fork()
if child == 0:
    os._exit(9)
os.waitpid(child, 0)
try:
    subprocess.run(["/nonexistent/program"])
except FileNotFoundError:
    pass
echo = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
echo.stdin.write(b".")
echo.stdin.flush()
echo.stdout.read(1)  # it runs: a SIGKILL that hits the middle of an exec would hide the exec from a tracer
echo.kill()
echo.wait()
"""

PYTHON_THREADING: Final = """\
import concurrent.futures
import subprocess
import threading

barrier = threading.Barrier(7)
threads = [threading.Thread(target=barrier.wait) for _ in range(7)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with concurrent.futures.ThreadPoolExecutor(max_workers=3) as pool:
    gate = threading.Barrier(3)
    list(pool.map(lambda _: (gate.wait(), subprocess.run(["true"])), range(3)))
"""

PYTHON_MULTIPROCESSING: Final = """\
import multiprocessing
import os


def work(number):
    return number * number


def child(queue):
    queue.put(os.getppid())


if __name__ == "__main__":
    multiprocessing.set_start_method("@HOW@")
    queue = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=child, args=(queue,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        queue.get()
    for process in processes:
        process.join()
    with multiprocessing.Pool(2) as pool:
        print(pool.map(work, range(5)))
        pool.close()
        pool.join()
"""

NODE: Final = """\
const { execSync, execFile, spawn, fork } = require("child_process");
const { Worker, isMainThread } = require("worker_threads");
if (process.argv[2] === "child") {
  process.exit(4);
} else if (!isMainThread) {
  require("fs").readFileSync(__filename);
} else {
  execSync("echo one | cat");
  execFile("true", () => {
    const killed = spawn("cat");
    killed.on("exit", () => {
      fork(__filename, ["child"]).on("exit", () => {
        new Worker(__filename).on("exit", () => new Worker(__filename));
      });
    });
    killed.stdout.on("data", () => killed.kill("SIGKILL"));
    killed.stdin.on("error", () => {}).write("it runs");
  });
}
"""

JAVA: Final = """\
public class Family {
    public static void main(String[] arguments) throws Exception {
        Thread[] threads = new Thread[5];
        for (int i = 0; i < threads.length; i++) {
            threads[i] = new Thread(() -> { });
            threads[i].start();
            threads[i].join();
        }
        for (String command : new String[] {"true", "exit 3", "kill -9 $$"}) {
            Process process = new ProcessBuilder("sh", "-c", command).start();
            System.out.println(process.waitFor());
        }
    }
}
"""

PERL: Final = """\
use strict;
use warnings;
system("true");
system("exit 3; true");
my $text = `echo backticks | cat`;
my $child = fork();
if ($child == 0) { exec("sh", "-c", "exit 6"); }
waitpid($child, 0);
open(my $pipe, "-|", "echo", "pipe") or die;
<$pipe>;
close($pipe);
system("/nonexistent/program") == -1 or die;
"""

POSTGRES: Final = """\
set -e
export PATH="@BIN@:$PATH" LC_ALL=C PGDATA="$PWD/data" HOME="$PWD"
initdb -A trust --no-sync -U postgres > initdb.log
# When the launcher of vacuum workers starts one is a matter of the clock; not within the hour.
pg_ctl -w -l server.log -o "-k '$PWD' -c listen_addresses='' -c autovacuum_naptime=1h -c fsync=off" start
psql -h "$PWD" -U postgres -c 'select count(*) from pg_class' postgres
psql -h "$PWD" -U postgres -c 'create table t as select generate_series(1, 1000) as n' postgres
pg_ctl -w -m fast stop
"""
