"""Programs with debug information, and what addr2line(1), objdump(1) and gdb(1) say about them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from this_machine import NATIVE

from forklore.abi.arch import Arch

Place = tuple[str | None, str | None, int | None]
"""Function, file and line."""

C = r"""
#include <stdio.h>
#include <string.h>
enum colour { RED, GREEN = 5, BLUE = -1 };
struct link { struct link *next; short pair[2]; };
struct state {
    int next;
    struct link link;
    unsigned first : 3, second : 7;
    int third : 4;
    char label[16];
    union { double real; long whole; };
    enum colour colour;
};
static int counts[5];
int total = 3;
struct state state;
_Bool ready = 1;
char letter = 'x';
double ratio = 1.5;
short grid[2][3];
const char *const words[] = {"one", "two"};
static inline __attribute__((always_inline)) int square(int x)
{
    int copy[2] = {x, x};
    total += copy[0];
    return x * copy[1];
}
static inline __attribute__((always_inline)) int twice(int x)
{
    return square(x) + square(x + 1);
}
__attribute__((noinline)) int work(int number, const char *const *names)
{
    int local = number * 2;
    unsigned char bytes[4] = {1, 2, 3, 4};
    {
        long inner = local + 1;
        counts[number & 3] += inner;
        printf("%ld %s %d\n", inner, names[0], bytes[number & 3]);
    }
    return twice(local);
}
int main(int argc, char **argv)
{
    int a = 5;
    char text[32] = "hi\n\"";
    struct state mine = {.next = 7, .colour = GREEN};
    enum colour colour = BLUE;
    float half = 0.5f;
    mine.next = work(a, words);
    state = mine;
    for (int i = 0; i < 3; i++) {
        static int calls;
        calls += i;
        a += work(i, words);
        memcpy(text + 8, &a, sizeof a);
    }
    return (a + text[9] + (half > 1) + colour + argc) & 1;
}
"""

CXX = r"""
#include <string>
#include <vector>
#include <algorithm>
namespace outer {
struct Base { virtual ~Base() = default; int kind = 1; };
struct Derived : Base { double weight = 2; static long shared; int sum(std::vector<int> &v); };
long Derived::shared = 7;
static Derived global;
int Derived::sum(std::vector<int> &v)
{
    int result = 0;
    std::sort(v.begin(), v.end(), [](int a, int b) { return a % 7 < b % 7; });
    for (int x : v)
        result += x;
    kind = result;
    return result;
}
}
int main(int argc, char **argv)
{
    std::vector<int> v{3, 1, argc};
    std::string name = argv[0];
    return (outer::global.sum(v) + int(name.size())) & 1;
}
"""


def need(*tools: str) -> None:
    """Skip the test where a tool that it compares with is not installed."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def build(directory: Path, *flags: str, source: str = C) -> Path:
    """Compile a program below ``directory``; C++ if ``source`` is :data:`CXX`."""
    compiler, suffix = ("g++", "cc") if source == CXX else ("gcc", "c")
    need(compiler)
    code = directory / f"program.{suffix}"
    code.write_text(source)
    program = directory / "program"
    subprocess.run([compiler, "-o", program, code.name, *flags], cwd=directory, check=True)
    return program


def instructions(program: Path) -> list[int]:
    """The address of every instruction of .text."""
    need("objdump")
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", "-j", ".text", program], capture_output=True, text=True, check=True
    ).stdout
    return [int(found, 16) for found in re.findall(r"^ +([0-9a-f]+):\t", listing, re.MULTILINE)]


def addr2line(program: Path, addresses: list[int]) -> dict[int, list[Place]]:
    """What addr2line -i -f says about each address."""
    need("addr2line")
    lines = subprocess.run(
        ["addr2line", "-a", "-i", "-f", "-e", program],
        input="\n".join(map(hex, addresses)), capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    answers: dict[int, list[Place]] = {}
    places: list[Place] = []
    at = 0
    while at < len(lines):
        if lines[at].startswith("0x"):
            places = answers[int(lines[at], 16)] = []
            at += 1
            continue
        file, _, line = lines[at + 1].partition(" (discriminator")[0].rpartition(":")
        number = int(line) if line.isdigit() else 0
        places.append((None if lines[at] == "??" else lines[at], None if file == "??" else file, number or None))
        at += 2
    return answers


def gdb_files(program: Path, addresses: list[int]) -> dict[int, str | None]:
    """The source file that gdb gives each address."""
    need("gdb")
    asked = [word for address in addresses for word in ("-ex", f"info line *{address:#x}")]
    said = subprocess.run(
        ["gdb", "-nx", "-batch", "-ex", "set filename-display absolute", *asked, program],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert len(said) == len(addresses)
    found = [re.search(r'^Line \d+ of "([^"]+)"', line) for line in said]
    return {address: match and match[1] for address, match in zip(addresses, found, strict=True)}


_REGISTERS = {
    Arch.X86_64: [
        "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp",
        "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    ],
    Arch.AARCH64: [*(f"x{number}" for number in range(31)), "sp"],
    Arch.RISCV64: [f"x{number}" for number in range(32)],
}[NATIVE]  # fmt: skip
"""gdb's names, in the order of their DWARF numbers."""

FRAME_POINTER = {Arch.X86_64: 6, Arch.AARCH64: 29, Arch.RISCV64: 8}[NATIVE]
"""The DWARF number of the register that holds the frame's address without optimization."""

_STEPPER = r"""
import json
def look():
    frame = gdb.newest_frame()
    header = gdb.execute("info frame", to_string=True)
    here = {"pc": frame.pc(), "function": frame.name(), "locals": {},
            "cfa": int(header.split("frame at ")[1].split(":")[0], 16),
            "registers": [int(frame.read_register(name).cast(word)) & (1 << 64) - 1 for name in REGISTERS]}
    block, level = frame.block(), frame
    while block is not None:
        for symbol in block:
            if symbol.addr_class in (gdb.SYMBOL_LOC_STATIC, gdb.SYMBOL_LOC_TYPEDEF) or not symbol.needs_frame:
                continue
            try:
                value = symbol.value(frame)
                address = int(value.address)
                raw = bytes(gdb.selected_inferior().read_memory(address, value.type.sizeof))
            except (gdb.error, TypeError):
                continue
            seen = [address, value.type.sizeof, raw.hex(), value.format_string()]
            here["locals"].setdefault(symbol.name, []).append(seen)
        if block.function is not None and not block.function.is_variable and block.superblock.is_static:
            break
        block = block.superblock
    print("LOOK " + json.dumps(here))
gdb.execute("set pagination off")
gdb.execute("set print elements 4")
gdb.execute("break main")
gdb.execute("break work")
gdb.execute("run > /dev/null")
word = gdb.lookup_type("unsigned long")
for step in range(STEPS):
    if gdb.newest_frame().name() in ("main", "work", "twice", "square"):
        look()
        gdb.execute("stepi", to_string=True)
    else:
        gdb.execute("finish", to_string=True)
gdb.execute("kill")
"""


def stepped(program: Path, steps: int) -> list[dict[str, Any]]:
    """Run in gdb an instruction at a time; pc, cfa, registers and the variables in memory at each."""
    need("gdb")
    script = program.with_suffix(".py")
    script.write_text(_STEPPER.replace("REGISTERS", repr(_REGISTERS)).replace("STEPS", str(steps)))
    ran = subprocess.run(
        ["gdb", "-nx", "-batch", "-x", script, program], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        check=False, timeout=60,
    )  # fmt: skip
    looks = [json.loads(line[5:]) for line in ran.stdout.splitlines() if line.startswith("LOOK ")]
    if not looks:
        if "Python scripting is not supported" in ran.stderr:
            pytest.skip("gdb without Python")
        pytest.fail(f"gdb stepped nowhere: {ran.stderr[-500:]}")
    return looks
