"""``forklore demo``: forklore on something real, in a minute, with nothing to prepare."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Final

from forklore.cli.main import OWN_FAILURE

HELP: Final = """\
Trace a shell pipeline, the build of a small C program and that program, whose
threads have names, and explain a clone call: each command is printed first, so
that it can be typed again.
"""
EPILOG: Final = """\
exit status:
  that of the first command that failed, else 0
"""
PROGRAM: Final = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static void *greet(void *name)
{
	printf("hello from %s\n", (char *)name);
	return NULL;
}

int main(void)
{
	pthread_t threads[3];
	char *names[] = {"one", "two", "three"};
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, greet, names[i]);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	return system("exit 7") == -1;
}
"""
_PIPELINE: Final = ("run", "--", "sh", "-c", "ls / | sort | head -n 3")
_BUILD: Final = ("run", "-o", "build.jsonl", "--", "gcc", "-pthread", "-o", "greet", "greet.c")
_THREADS: Final = ("run", "--", "./greet")
_EXPLAINED: Final = ("explain", "0x1200011")


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """It has no options."""


def run(_args: argparse.Namespace) -> int:
    """Run it; 0, or the status of the first command that failed."""
    compiler = shutil.which("gcc") is not None
    commands = [_PIPELINE, *([_BUILD, _THREADS] if compiler else []), _EXPLAINED]
    with tempfile.TemporaryDirectory(prefix="forklore-") as folder:
        with open(os.path.join(folder, "greet.c"), "w", encoding="ascii") as source:
            source.write(PROGRAM)
        for words in commands:
            if status := _shown(words, folder):
                return status
    if not compiler:
        print("\nWith gcc there is more to see here: a build, and threads (Debian: apt install gcc libc6-dev)")
    print("\nNow your own:  forklore run -- COMMAND     (forklore --help)")
    return 0


def _shown(words: Sequence[str], folder: str) -> int:
    print(f"\n$ forklore {shlex.join(words)}", flush=True)
    # By the interpreter and the path of this process, whatever the folder and the environment have.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))}
    status = subprocess.run([sys.executable, "-m", "forklore", *words], cwd=folder, env=environment, check=False)
    return status.returncode if status.returncode >= 0 else OWN_FAILURE
