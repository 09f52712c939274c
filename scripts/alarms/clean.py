"""Programs as they are used every day: nothing of them is to be found wrong."""

from __future__ import annotations

import sys

from transparent.workload import Workload, lacks
from transparent.workloads import postgres

_GIT = """
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b HOME=$PWD
git init -q . && seq 500 > f && git add f && git commit -qm one
for i in 1 2 3 4 5; do seq $i 600 > f; git commit -qam "$i"; done
git checkout -q -b side HEAD~3 && seq 9 > g && git add g && git commit -qm side
git checkout -q - && git merge -q --no-edit side && git log --oneline | cat && git diff HEAD~2 | head -5
git clone -q --no-local . ../clone-$$ && (cd ../clone-$$ && git pull -q && git log -1 --format=%s)
rm -rf ../clone-$$; git gc -q; git fsck; git stash list; git submodule status
"""
_MAKEFILE = r"""
mkdir -p lib
for i in 1 2 3 4 5 6 7 8; do echo "int f$i(void) { return $i; }" > lib/f$i.c; done
echo 'int f1(void); int main(void) { return f1() - 1; }' > main.c
cat > lib/Makefile <<'END'
OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))
lib.a: $(OBJECTS) ; ar rcs $@ $^
%.o: %.c ; $(CC) -O1 -c -o $@ $<
END
cat > Makefile <<'END'
all: prog ; ./prog && echo it runs
prog: main.c lib/lib.a ; $(CC) -o $@ main.c lib/lib.a
lib/lib.a: always ; $(MAKE) -C lib lib.a
always: ;
END
"""
_SUITE = r"""
cat > test_it.py <<'END'
import subprocess, sys, threading, tempfile, pytest
from concurrent.futures import ThreadPoolExecutor

@pytest.mark.parametrize("n", range(6))
def test_runs(n):
    assert subprocess.run([sys.executable, "-c", f"print({n})"], capture_output=True, text=True).stdout == f"{n}\n"

def test_pipes():
    first = subprocess.Popen(["seq", "9"], stdout=subprocess.PIPE)
    second = subprocess.Popen(["sort", "-r"], stdin=first.stdout, stdout=subprocess.PIPE)
    first.stdout.close()
    assert second.communicate()[0].startswith(b"9") and first.wait() == 0

def test_threads():
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda n: subprocess.run(["true"]).returncode, range(8)))
    assert done == [0] * 8

def test_file():
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("x"); file.flush()
        assert subprocess.check_output(["cat", file.name]) == b"x"
END
"""


def clean() -> list[Workload]:
    """Clean runs of git, make, a test suite in Python, and postgres."""
    python = sys.executable
    suite = f"{_SUITE}{python} -m pytest -q -p no:cacheprovider"
    compiler = lacks("cc", "gcc")
    lists = [
        Workload("git", ("sh", "-ec", _GIT), needs=lacks("git", "git")),
        Workload("make -j2", ("sh", "-ec", f"{_MAKEFILE} make -j2"), needs=lacks("make", "make") or compiler),
        Workload("make", ("sh", "-ec", f"{_MAKEFILE} make"), needs=lacks("make", "make") or compiler),
        Workload("pytest", ("sh", "-ec", suite)),
        Workload("pytest -n 2", ("sh", "-ec", f"{suite} -n 2")),
        Workload("pip list", (python, "-m", "pip", "list", "--disable-pip-version-check")),
        Workload(
            "bash pipeline", ("bash", "-c", "seq 99 | sort -r | tail -3; diff <(seq 3) <(seq 3); echo $(ls / | wc -l)")
        ),
    ]  # fmt: skip
    return lists + postgres()
