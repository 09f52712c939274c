"""The command: builds what is not in the cache, boots, runs the tests, tells their results."""

from __future__ import annotations

import argparse
import compileall
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from py_compile import PycInvalidationMode

from emulator.boot import booted, console, last_words
from emulator.image import ROOT, Image, require, say
from emulator.kernel import GUEST
from emulator.machines import MACHINES, Problem
from emulator.stages import NAMES, stages

SOURCES = (
    "src", "tests", "scripts", "docs", "traces", "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md",
    "LICENSE",
)  # fmt: skip
"""What of the project goes into the machine."""


def main() -> int:
    """Exit status 0: all passed or were skipped; 1: some did not; 2: the machine could not be set up."""
    arguments = _arguments()
    machine = MACHINES[arguments.arch]
    try:
        require(machine)
        image = Image(machine, arguments.suite or machine.suite)
        if not image.ready or arguments.rebuild:
            _make(image, arguments)
        if arguments.shell:
            return _shell(image, arguments)
        return _tests(image, arguments)
    except Problem as problem:
        say(str(problem))
        return 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/emulated", description="Run the tests in an emulated machine of another architecture.",
        epilog="Without words for pytest: the unit tests, then the live tests, stage by stage.",
    )
    parser.add_argument("arch", choices=sorted(MACHINES))
    parser.add_argument("pytest", nargs="*", help="words for pytest, after -- if they begin with a dash")
    parser.add_argument("--suite", help="Debian's suite (bookworm, trixie, sid)")
    parser.add_argument("--kernel", metavar="PACKAGE", help="another one of Debian's: a package's name, or its .deb")
    parser.add_argument("--kernel-options", default="", metavar="WORDS", help="for its command line")
    parser.add_argument("--cpu", help="qemu's -cpu, e.g. max,pauth-impdef=on for pointer authentication")
    parser.add_argument("--processors", type=int, default=2, metavar="N")
    parser.add_argument("--memory", type=int, default=4096, metavar="MB")
    parser.add_argument("--patience", type=float, default=10, metavar="FACTOR", help="of the tests' limits (10)")
    parser.add_argument("--nice", type=int, default=19, metavar="N", help="of the emulator (19: others go first)")
    parser.add_argument("--results", type=Path, metavar="DIR", help="where results go (a new folder)")
    parser.add_argument("--only", metavar="STAGE,...", help=f"some stages of: {' '.join(NAMES)}")
    parser.add_argument("--rebuild", action="store_true", help="make the image again")
    parser.add_argument("--variants", type=int, default=0, metavar="N", help="of each test at most (0: all)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="tests at the same time (1)")
    parser.add_argument("--preloaded", action="store_true", help="start no Python for each run of forklore: faster")
    parser.add_argument("--shell", action="store_true", help="run the lines of standard input there, one by one")
    parser.add_argument("--pidfile", type=Path, metavar="FILE", help="for the emulator's pid")
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    # Words come between options, too, and those after -- look like options.
    arguments = parser.parse_intermixed_args(given[:end])
    arguments.pytest += given[end + 1 :]
    return arguments


def _boot(
    image: Image, shared: Path, start: str, arguments: argparse.Namespace, *, keep: bool = False
) -> AbstractContextManager[subprocess.Popen[str]]:
    return booted(
        image, shared, start, processors=arguments.processors, memory=arguments.memory, cpu=arguments.cpu, keep=keep,
        pidfile=arguments.pidfile, boot=None if keep else image.boot(arguments.kernel),
        options="" if keep else arguments.kernel_options, nice=arguments.nice,
    )  # fmt: skip


def _make(image: Image, arguments: argparse.Namespace) -> None:
    if arguments.rebuild or not image.built:
        image.build()
    say("preparing the image in the emulated machine (some minutes)")
    shared = image.folder / "shared"
    (shared / "results").mkdir(parents=True, exist_ok=True)
    log = image.folder / "console"
    with _boot(image, shared, "prepare", arguments, keep=True) as process:
        for line in console(process, log):
            say(line)
    if not (shared / "results/prepared").exists():
        raise Problem("\n  ".join([f"the image was not prepared; the console ({log}) ended with:", *last_words(log)]))
    image.finished()


def _share(folder: Path, image: Image, arguments: argparse.Namespace) -> None:
    (folder / "results").mkdir(parents=True)
    (folder / "plugin").mkdir()
    plugins = ["patience", "outcomes", "variants", *(["preloaded"] if arguments.preloaded else [])]
    for plugin in plugins:
        shutil.copy(GUEST / f"{plugin}.py", folder / "plugin")
    words = [word for plugin in plugins for word in ("-p", plugin)]
    words += ["-n", str(arguments.workers)] if arguments.workers > 1 else []
    (folder / "plugins").write_text(" ".join(words))
    (folder / "patience").write_text(str(arguments.patience))
    (folder / "variants").write_text(str(arguments.variants))
    image.programs.mkdir(exist_ok=True)
    shutil.copytree(image.programs, folder / "programs")
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / "source" / name, ignore=leave, symlinks=True)
        elif path.exists():
            shutil.copy(path, folder / "source" / name)
    # Of use where the machine's Python is of the same version as this one.
    compileall.compile_dir(
        folder / "source/src", quiet=2, stripdir=str(folder / "source"), prependdir="/forklore",
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )  # fmt: skip
    shutil.make_archive(str(folder / "source"), "tar", folder / "source")  # each file of its own takes long to read
    shutil.rmtree(folder / "source")


def _stages(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    if arguments.pytest:
        return [("asked", shlex.join(arguments.pytest))]
    there = {name: shlex.join(words) for name, words in stages()}
    wanted = list(there) if arguments.only is None else arguments.only.split(",")
    unknown = set(wanted) - set(NAMES)
    if unknown:
        raise Problem(f"no stage {' '.join(sorted(unknown))}: there are {' '.join(NAMES)}")
    return [(name, there[name]) for name in wanted if name in there]


def _tests(image: Image, arguments: argparse.Namespace) -> int:
    results = arguments.results or Path(tempfile.mkdtemp(prefix="forklore-emulated-"))
    results.mkdir(parents=True, exist_ok=True)
    asked = _stages(arguments)
    with tempfile.TemporaryDirectory(prefix="forklore-emulated-") as temporary:
        shared = Path(temporary)
        _share(shared, image, arguments)
        (shared / "stages").write_text("".join(f"{name}\t{words}\n" for name, words in asked))
        begun = time.monotonic()
        try:
            with _boot(image, shared, "tests", arguments) as process:
                for line in console(process, results / "console"):
                    say(f"{time.monotonic() - begun:6.0f} s  {line}")
        except KeyboardInterrupt:
            say("interrupted: what follows is what there is so far")
        shutil.copytree(shared / "programs", image.programs, dirs_exist_ok=True)
        for made in (shared / "results").iterdir():
            shutil.copy(made, results / made.name)
    outcomes: dict[str, str] = {}  # a test that is in two stages counts once
    for name, _ in asked:
        outcomes |= _told(name, results)
    total = Counter(outcomes.values())
    print(f"{'all':24} {_counts(total)}\nresults: {results}")
    return 0 if total and not (total["failed"] or total["lost"]) else 1


def _told(name: str, results: Path) -> dict[str, str]:
    # Prints a stage's counts and what failed. A stage that came to no end has what it had said, and is one more, lost.
    outcomes = _outcomes(results / f"{name}.jsonl")
    if not (results / f"{name}.xml").exists():
        outcomes[name] = "lost"
    print(f"{name:24} {_counts(Counter(outcomes.values()))}")
    if outcomes.get(name) == "lost":
        print(f"    came to no end: see {results / f'{name}.txt'} and {results / 'console'}")
    for test, kind in outcomes.items():
        if kind == "failed":
            print(f"    failed: {test}")
    return outcomes


def _outcomes(said: Path) -> dict[str, str]:
    outcomes: dict[str, str] = {}
    for line in said.read_text(errors="replace").splitlines() if said.exists() else ():
        one = json.loads(line)
        if outcomes.get(one["test"]) != "failed":  # its teardown may have passed
            outcomes[one["test"]] = one["outcome"]
    return outcomes


def _counts(counts: Counter[str]) -> str:
    kinds = ("passed", "failed", "skipped", "lost")
    return ", ".join(f"{counts[kind]} {kind}" for kind in kinds if counts[kind]) or "no tests"


def _shell(image: Image, arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="forklore-emulated-") as temporary:
        shared = Path(temporary)
        _share(shared, image, arguments)
        log = shared / "console"
        with _boot(image, shared, "shell", arguments) as process:
            if next(console(process, log), None) is None:
                raise Problem("\n  ".join(["the machine ended; its last words:", *last_words(log)]))
            say(f"ready; {shared} is its /host. One line is one command.")
            for line in sys.stdin:
                _command(process, shared, line)
    return 0


def _command(process: subprocess.Popen[str], shared: Path, line: str) -> None:
    (shared / "command.new").write_text(line)
    (shared / "command.new").rename(shared / "command")
    answered = shared / "answered"
    while not answered.exists() and process.poll() is None:
        time.sleep(0.2)
    print((shared / "answer").read_text(errors="replace"), end="", flush=True)
    answered.unlink(missing_ok=True)
