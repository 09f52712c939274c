"""Which function covers an address and where a name is, with nm as the oracle."""

import lzma
import subprocess
import time
from bisect import bisect_right
from pathlib import Path

import pytest
from elf_files import LIBC, compiled, written
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_tools import run
from this_machine import processor_time

from forklore.abi.units import Address
from forklore.elf.image.image import ElfImage
from forklore.elf.image.symbols import Symbol, Symbols

FUNC, LOCAL_FUNC, WEAK_FUNC, IFUNC, LOCAL_LABEL, OBJECT, TLS = 0x12, 0x02, 0x22, 0x1A, 0x00, 0x11, 0x16

SOURCE = """
#include <pthread.h>
__thread int per_thread = 3;
int table[4] = {1, 2, 3, 4};
static __attribute__((noinline)) int inner(int n) { return n * table[n & 3]; }
__attribute__((noinline)) int outer(int n) { return inner(n) + per_thread; }
__asm__(".text\\n.globl bare\\nbare: nop\\nnop\\nnop\\nret\\n"
        ".globl after\\n.type after,@function\\nafter: ret\\n.size after,1");
int main(int argc, char **argv) { (void)argv; return outer(argc); }
"""


def opened(path: Path | str) -> ElfImage:
    image = ElfImage.open(path)
    assert isinstance(image, ElfImage), image
    return image


def of(*symbols: tuple[bytes, int, int, int], bits: int = 64, machine: int = 62) -> Symbols:
    image = ElfImage.of_bytes(written(symbols, bits=bits, machine=machine))
    assert isinstance(image, ElfImage), image
    return Symbols(image)


def nm(path: Path | str, *options: str) -> dict[int, tuple[int, set[bytes]]]:
    """Address: size and names of the sized functions that nm prints."""
    functions: dict[int, tuple[int, set[bytes]]] = {}
    for line in run("nm", "-S", *options, path).splitlines():
        words = line.split()
        if len(words) == 4 and words[2] in "tTwWi":
            address, size = int(words[0], 16), int(words[1], 16)
            known = functions.setdefault(address, (0, set()))
            functions[address] = (max(size, known[0]), known[1] | {words[3].partition("@")[0].encode()})
    return functions


def agree(symbols: Symbols, functions: dict[int, tuple[int, set[bytes]]], every: int) -> None:
    starts = sorted(functions)
    for start in starts[::every]:
        size, names = functions[start]
        for found in (symbols.at(start, start), symbols.at(start), symbols.at(start + size - 1, start)):
            assert found is not None, (hex(start), names)
            assert (found.address, found.name in names) == (start, True), (found, names)
        later = starts[bisect_right(starts, start):bisect_right(starts, start + size - 1)]
        inside = symbols.at(start + size - 1)
        assert inside is not None
        assert inside.address in (start, *later)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("symbols"), SOURCE, "-O1", "-rdynamic", "-Wl,--hash-style=gnu")


def test_a_program_agrees_with_nm(program: Path) -> None:
    agree(Symbols(opened(program)), nm(program), 1)


@pytest.mark.parametrize(("path", "options", "every"), [
    (str(LIBC), ["-D"], 1), ("/usr/bin/python3", ["-D"], 3)])
def test_installed_files_agree_with_nm(path: str, options: list[str], every: int) -> None:
    if not Path(path).exists():
        pytest.skip(f"{path} is not there: not a Debian")
    functions = nm(path, *options)
    if len(functions) < 100:
        pytest.skip(f"{path} exports too few functions: {len(functions)}")
    agree(Symbols(opened(path)), functions, every)


def test_a_static_program_agrees_with_nm(tmp_path: Path) -> None:
    try:
        program = compiled(tmp_path, "int main(void) { return 0; }", "-static")
    except subprocess.CalledProcessError as problem:
        pytest.skip(f"gcc -static fails: {problem.stderr.splitlines()[-1]}")
    functions = nm(program)
    assert len(functions) > 500
    agree(Symbols(opened(program)), functions, 1)


@pytest.mark.parametrize("style", ["gnu", "sysv", "both"])
def test_names_are_found_by_either_hash_table_without_sections(tmp_path: Path, style: str) -> None:
    source = SOURCE.replace("int main", "int entry")
    library = compiled(tmp_path, source, "-shared", "-fPIC", f"-Wl,--hash-style={style}")
    expected = {name: address for address, (_, names) in nm(library, "-D").items() for name in names}
    assert {b"outer", b"entry", b"after"} <= set(expected)
    content = bytearray(library.read_bytes())
    content[40:48] = bytes(8)  # e_shoff
    content[60:64] = bytes(4)  # e_shnum, e_shstrndx
    bare = ElfImage.of_bytes(bytes(content))
    assert isinstance(bare, ElfImage)
    for symbols in (Symbols(opened(library)), Symbols(bare)):
        for name, address in expected.items():
            found = symbols.find(name)
            assert found is not None, name
            assert found.address == address
        assert symbols.find(b"nothing") is None
        assert symbols.find(b"per_thread") is None
        assert symbols.find(b"table") is not None
        outer = expected[b"outer"]
        found = symbols.at(outer + 1)
        assert found is not None
        assert found.name == b"outer"


def test_local_functions_and_objects_are_found_in_symtab(program: Path) -> None:
    symbols = Symbols(opened(program))
    inner = symbols.find(b"inner")
    assert inner is not None
    assert inner.address in nm(program)
    assert symbols.find(b"table") is not None
    assert symbols.find(b"") is None
    assert symbols.find(b"a\0b") is None


def test_assembly_without_a_size_reaches_to_the_next_function(program: Path) -> None:
    symbols = Symbols(opened(program))
    bare = symbols.find(b"bare")
    assert bare is not None
    assert bare.size == 0
    after = symbols.find(b"after")
    assert after is not None
    assert after.address > bare.address + 3, "four instructions"
    assert symbols.at(after.address - 1) == bare
    assert symbols.at(after.address) == after


HIDDEN = """
.text
.globl fill
.type fill,@function
fill: test %edi, %edi
 je 1f
 ret
1: mov $1, %eax
 jmp 2f
3: ret
2: jmp 3b
hidden: mov $56, %eax
 syscall
 ret
.globl saved
.type saved,@function
saved: xor %eax, %eax
 ret
 nop
restorer: mov $15, %eax
 syscall
.globl shared
.type shared,@function
shared: pop %rdx
 mov $58, %eax
 syscall
 push %rdx
 jmp saved
inner: jmp *%rax
"""


@pytest.mark.parametrize("kept", [True, False], ids=["with symbols", "stripped"])
def test_assembly_does_not_lend_its_name_to_hidden_code_behind_it(tmp_path: Path, kept: bool) -> None:
    # As musl's: fill is memset, hidden __clone, saved setjmp, restorer that of signals, shared vfork.
    source, library = tmp_path / "hidden.s", tmp_path / "hidden.so"
    source.write_text(HIDDEN)
    run("gcc", "-shared", "-nostdlib", "-o", library, source)
    whole = Symbols(opened(library))
    places = {name: whole.find(name.encode()) for name in ("fill", "hidden", "saved", "restorer", "shared", "inner")}
    if not kept:
        run("strip", library)
    symbols = Symbols(opened(library))

    def name(place: str, offset: int) -> bytes | None:
        found = places[place]
        assert found is not None
        at = symbols.at(found.address + offset)
        return None if at is None else at.name

    assert {name("fill", offset) for offset in (0, 4, 11, 12, 13)} == {b"fill"}
    assert {name("saved", offset) for offset in (0, 2)} == {b"saved"}
    assert {name("shared", offset) for offset in (0, 8)} == {b"shared"}
    for hidden, offset in (("hidden", 0), ("hidden", 7), ("restorer", 0), ("restorer", 5), ("inner", 0)):
        assert name(hidden, offset) == (hidden.encode() if kept else None)


def test_a_stripped_program_has_no_names_for_its_own_functions(program: Path, tmp_path: Path) -> None:
    inner = Symbols(opened(program)).find(b"inner")
    assert inner is not None
    run("strip", "-o", tmp_path / "stripped", program)
    symbols = Symbols(opened(tmp_path / "stripped"))
    assert symbols.at(inner.address, inner.address) is None
    assert symbols.find(b"inner") is None
    assert symbols.find(b"outer") is not None


def packed(program: Path, directory: Path, content: bytes) -> Symbols:
    (directory / "payload").write_bytes(content)
    run("strip", "-o", directory / "mini", program)
    run("objcopy", "--add-section", f".gnu_debugdata={directory / 'payload'}", directory / "mini")
    return Symbols(opened(directory / "mini"))


def test_mini_debug_information_names_local_functions(program: Path, tmp_path: Path) -> None:
    inner = Symbols(opened(program)).find(b"inner")
    assert inner is not None
    run("objcopy", "-S", "--keep-symbol=inner", program, tmp_path / "kept")
    symbols = packed(program, tmp_path, lzma.compress((tmp_path / "kept").read_bytes()))
    assert symbols.at(inner.address + 1) == inner
    assert symbols.at(inner.address + 1, inner.address) == inner


@pytest.mark.parametrize("content", [
    b"no xz" * 9, lzma.compress(b"no ELF file"), lzma.compress(bytes(1000))[:40],
    lzma.compress(bytes(70 << 20), preset=0)])
def test_broken_mini_debug_information_names_nothing(program: Path, tmp_path: Path, content: bytes) -> None:
    symbols = packed(program, tmp_path, content)
    assert symbols.find(b"inner") is None


@pytest.mark.parametrize("name", [b"fork", b"vfork", b"clone", b"posix_spawn", b"posix_spawnp", b"pthread_create",
                                  b"system", b"popen", b"timer_create"])
def test_glibc_functions_have_their_documented_names(name: bytes) -> None:
    if not LIBC.exists():
        pytest.skip(f"{LIBC} is not there: not a Debian")
    symbols = Symbols(opened(LIBC))
    found = symbols.find(name)
    assert found is not None
    assert symbols.at(found.address + 1, found.address) == found
    assert symbols.at(found.address + 1) == found


@pytest.mark.parametrize(("aliases", "documented"), [
    ([(b"__fork", FUNC), (b"__libc_fork", FUNC), (b"fork", WEAK_FUNC)], b"fork"),
    ([(b"__pthread_create_2_1", LOCAL_FUNC), (b"pthread_create@@GLIBC_2.34", FUNC)], b"pthread_create"),
    ([(b"_IO_popen", FUNC), (b"popen", WEAK_FUNC)], b"popen"),
    ([(b"label", LOCAL_LABEL), (b"__memcpy", IFUNC)], b"__memcpy"),
    ([(b"do_it", LOCAL_FUNC), (b"published", WEAK_FUNC)], b"published"),
    ([(b"_ZN1AC2Ev", FUNC), (b"_ZN1AC1Ev", FUNC)], b"_ZN1AC1Ev"),
    ([(b"thing", OBJECT), (b"__function", LOCAL_FUNC)], b"__function")])
@pytest.mark.parametrize("bits", [32, 64])
def test_the_best_of_several_names(aliases: list[tuple[bytes, int]], documented: bytes, bits: int) -> None:
    symbols = of(*((name, info, 0x401000, 16) for name, info in aliases), bits=bits, machine=3 if bits == 32 else 62)
    for found in (symbols.at(0x401004), symbols.at(0x401004, 0x401000)):
        assert found == Symbol(documented, Address(0x401000), 16)




def test_what_covers_an_address() -> None:
    symbols = of((b"sized", FUNC, 0x401000, 16), (b"open", FUNC, 0x401100, 0), (b"next", FUNC, 0x401200, 64),
                 (b"label", LOCAL_LABEL, 0x401210, 0), (b"tls", TLS, 0x401300, 8))

    def name(address: int, start: int | None = None) -> bytes | None:
        found = symbols.at(address, start)
        return None if found is None else found.name

    assert name(0x400FFF) is None
    assert name(0x40100F) == b"sized"
    assert name(0x401010) is None, "behind the end of a function that has one"
    assert name(0x4011FF) == b"open"
    assert name(0x401180, 0x401150) is None, "another function, without a symbol, begins in between"
    assert name(0x401180, 0x401100) == b"open"
    assert name(0x401220) == b"next", "a label inside of a function does not end it"
    assert name(0x401300) is None
    assert name(0x40100F, 0x40100F) == b"sized"


def test_mapping_symbols_are_no_functions() -> None:
    symbols = of((b"$x", LOCAL_LABEL, 0x401000, 0), (b"start", LOCAL_LABEL, 0x401000, 0), machine=183)
    found = symbols.at(0x401008, 0x401000)
    assert found is not None
    assert found.name == b"start"


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0x400000, 0x4FFFFF), st.integers(1, 200)), min_size=1, max_size=60,
                unique_by=lambda pair: pair[0]), st.data(), st.sampled_from([32, 64]))
def test_any_table_agrees_with_a_plain_search(places: list[tuple[int, int]], data: st.DataObject, bits: int) -> None:
    # Disjoint functions: each is cut where the next one begins.
    starts = sorted(places)
    ends = [*(start for start, _ in starts[1:]), 1 << 30]
    functions = [(start, min(size, end - start)) for (start, size), end in zip(starts, ends, strict=True)]
    order = data.draw(st.permutations(functions))
    symbols = of(*((b"f%x" % start, FUNC, start, size) for start, size in order), bits=bits)
    picked = data.draw(st.sampled_from(functions))[0]
    for address in (*(picked + step for step in (-1, 0, 1, 100)), data.draw(st.integers(0x400000, 0x500000))):
        covering = [start for start, size in functions if start <= address < start + size]
        found = symbols.at(address)
        assert (None if found is None else found.address) == (covering[0] if covering else None)
        assert symbols.find(b"f%x" % picked) is not None


def test_many_symbols_cost_neither_time_nor_memory() -> None:
    count = 200_000
    image = ElfImage.of_bytes(written([(b"f%d" % number, FUNC, 0x400000 + 32 * number, 32) for number in range(count)]))
    assert isinstance(image, ElfImage)
    symbols = Symbols(image)
    started = time.thread_time()
    for number in range(0, 2000, 2):
        found = symbols.at(0x400000 + 32 * number + 5)
        assert found is not None
        assert found.name == b"f%d" % number
    assert time.thread_time() - started < processor_time(0.5), "a thousand lookups, one block of addresses"
    found = symbols.find(b"f%d" % (count - 1))
    assert found is not None
    assert found.address == 0x400000 + 32 * (count - 1)


@pytest.mark.parametrize("same", [0, 0x401000])
def test_a_table_of_one_value_is_bounded(same: int) -> None:
    symbols = of(*((b"f", FUNC, same, 32) for _ in range(100_000)))
    started = time.thread_time()
    assert (symbols.at(0x401001) is None) == (same == 0)
    symbols.at(0x401001, 0x401001)
    assert time.thread_time() - started < processor_time(2)
