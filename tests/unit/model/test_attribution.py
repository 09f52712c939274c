"""Who made a child: stacks as they come out of real programs, written down frame by frame, innermost first."""

import struct
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.decode.creation import Creation, decode_creation
from forklore.events import records as ev
from forklore.model import library_calls
from forklore.model.attribution import Attribution, attribute
from forklore.model.names import function_name
from forklore.model.script_calls import asked
from forklore.model.stacks import CallStack, CodePlace, StackFrame

LIBC: Final = b"/usr/lib/x86_64-linux-gnu/libc.so.6"
PROGRAM: Final = b"/home/me/pool"


def clone3(flags: int, signal: int = 0) -> Creation:
    words = struct.pack("<11Q", flags, 0x72D0, 0x72D0, 0x72D0, signal, 0x1000, 0x9000, 0x7000, 0, 0, 0)
    return decode_creation(Arch.X86_64, 435, (0x1000, 88), words)


def clone(flags: int, stack: int = 0) -> Creation:
    return decode_creation(Arch.X86_64, 56, (flags, stack, 0, 0x1000, 0))


THREAD: Final = clone3(0x3D0F00)
SPAWN: Final = clone3(0x4100, 17)
FORK: Final = clone(0x1200011)
VFORK: Final = decode_creation(Arch.X86_64, 58, ())
RAW_FORK: Final = decode_creation(Arch.X86_64, 57, ())
USERS_CLONE: Final = clone(0x11, 0x1000)


def stack(
    *frames: tuple[bytes, str | None] | CodePlace, how: Sequence[ev.FrameHow] = (), end: str = "outermost"
) -> CallStack:
    made = []
    for number, frame in enumerate(frames, 1):
        place = frame if isinstance(frame, CodePlace) else place_of(*frame, number=number)
        usual: ev.FrameHow = "register" if number == 1 else "rule"
        made.append(StackFrame(place, how[number - 1] if number <= len(how) else usual))
    return CallStack(1, tuple(made), end)


def place_of(path: bytes, function: str | None, *lines: ev.Line, number: int = 1) -> CodePlace:
    module = ev.Module(t=0, module=1, path=ev.text(path)) if path else None
    return CodePlace(number, module, 0x1000 + number, None if function is None else function.encode(), 0x1000, lines)


def libc(*functions: str | None) -> list[tuple[bytes, str | None]]:
    return [(LIBC, function) for function in functions]


MAIN: Final = [(PROGRAM, "start_pool"), (PROGRAM, "main"), (LIBC, "__libc_start_call_main"), (LIBC, None)]


def who(found: Attribution) -> tuple[tuple[str, ...], str | None, str, bool]:
    function = None if found.caller is None or found.caller.place.function is None else found.caller.place.function
    return found.chain, None if function is None else function.decode(), found.source, found.sure


@pytest.mark.parametrize(
    ("creation", "inner", "chain"),
    [
        (FORK, ["_Fork", "fork"], ("fork",)),
        (FORK, ["_Fork", "__libc_fork"], ("fork",)),
        (FORK, ["__GI__Fork"], ("_Fork",)),
        (VFORK, ["__vfork"], ("vfork",)),
        (FORK, ["_Fork", "__libc_fork", "forkpty@@GLIBC_2.34"], ("forkpty", "fork")),
        (FORK, ["_Fork", "fork", "daemon"], ("daemon", "fork")),
        (SPAWN, ["clone3", "__clone_internal", "__spawnix", "__spawni", "posix_spawn@@GLIBC_2.15"], ("posix_spawn",)),
        (SPAWN, ["clone3", None, None, "posix_spawn"], ("posix_spawn",)),
        (SPAWN, ["clone3", "__clone_internal", "__spawnix", "__spawni", "posix_spawnp"], ("posix_spawnp",)),
        (SPAWN, ["clone3", "__spawnix", "__GI___posix_spawn", "do_system"], ("system", "posix_spawn")),
        (SPAWN, ["clone3", "__spawnix", "posix_spawn", "spawn_process", "_IO_new_proc_open", "_IO_new_popen"],
         ("popen", "posix_spawn")),
        (SPAWN, ["clone3", "__spawnix", "posix_spawn", "exec_comm", "wordexp"], ("wordexp", "posix_spawn")),
        (SPAWN, ["clone3", "__spawnix", "pidfd_spawn"], ("pidfd_spawn",)),
        (THREAD, ["clone3", "__clone_internal", "create_thread", "__pthread_create_2_1"], ("pthread_create",)),
        (
            THREAD, ["__clone3", "__clone3_internal", "__clone_internal", "create_thread", "pthread_create"],
            ("pthread_create",),
        ),
        (THREAD, ["__clone", "create_thread", "pthread_create@@GLIBC_2.2.5"], ("pthread_create",)),
        (THREAD, ["clone3", "create_thread", "__pthread_create_2_1", "thrd_create"], ("thrd_create", "pthread_create")),
        (THREAD, ["clone3", "pthread_create", "__timer_start_helper_thread", "__pthread_once_slow", "timer_create"],
         ("timer_create", "pthread_create")),
        (THREAD, ["clone3", "pthread_create", "__gai_enqueue_request", "getaddrinfo_a"],
         ("getaddrinfo_a", "pthread_create")),
        (THREAD, ["clone3", "pthread_create", "__aio_enqueue_request", "aio_read64"], ("aio_read", "pthread_create")),
        (USERS_CLONE, ["__clone"], ("clone",)),
        (USERS_CLONE, ["syscall"], ("syscall",)),
    ],
)  # fmt: skip
def test_the_c_librarys_own_functions_are_its_public_calls(
    creation: Creation, inner: list[str | None], chain: tuple[str, ...]
) -> None:
    found = attribute(creation, stack(*libc(*inner), *MAIN))
    assert who(found) == (chain, "start_pool", "stack", True)
    assert found.why == "by the functions on the stack"


def test_older_libraries_are_several_files() -> None:
    pthread = b"/lib/x86_64-linux-gnu/libpthread-2.31.so"
    clock = b"/lib/x86_64-linux-gnu/librt-2.31.so (deleted)"
    frames = [(b"/lib/libc-2.31.so", "__clone"), (pthread, "create_thread"), (pthread, "pthread_create"),
              (clock, "timer_create@@GLIBC_2.3.3")]  # fmt: skip
    found = attribute(THREAD, stack(*frames, *MAIN))
    assert who(found) == (("timer_create", "pthread_create"), "start_pool", "stack", True)


def test_musl_is_one_file() -> None:
    musl = b"/lib/ld-musl-x86_64.so.1"
    found = attribute(SPAWN, stack((musl, "__clone"), (musl, "posix_spawn"), (musl, "popen"), (PROGRAM, "main")))
    assert who(found) == (("popen", "posix_spawn"), "main", "stack", True)


def test_a_function_of_that_name_in_the_program_is_the_callers_own() -> None:
    found = attribute(FORK, stack(*libc("_Fork", "fork"), (PROGRAM, "system"), (PROGRAM, "fork_server"), *MAIN))
    assert who(found) == (("fork",), "system", "stack", True)


def test_a_system_call_in_the_program_itself_has_no_library() -> None:
    found = attribute(RAW_FORK, stack((PROGRAM, "fork"), *MAIN))
    assert who(found) == ((), "fork", "stack", True)
    assert found.why == "the program makes the system call itself"


STATIC: Final = [(PROGRAM, "start_pool"), (PROGRAM, "main"), (PROGRAM, "__libc_start_call_main")]


def test_in_a_static_program_names_count_where_the_calls_form_agrees() -> None:
    inner = [(PROGRAM, name) for name in ("clone3", "__spawnix", "__posix_spawn", "do_system")]
    found = attribute(SPAWN, stack(*inner, *STATIC))
    assert who(found) == (("system", "posix_spawn"), "start_pool", "stack", True)
    assert "linked into" in found.why
    assert "agrees" in found.why


def test_in_a_static_program_a_name_against_the_form_is_not_sure() -> None:
    found = attribute(clone(0x111, 0x1000), stack((PROGRAM, "fork"), *STATIC))
    assert who(found) == (("fork",), "start_pool", "stack", False)
    assert "cannot confirm" in found.why


def test_in_a_static_program_an_own_function_in_between_ends_the_library() -> None:
    inner = [(PROGRAM, "_Fork"), (PROGRAM, "fork"), (PROGRAM, "my_fork"), (PROGRAM, "system")]
    assert who(attribute(FORK, stack(*inner, *STATIC)))[:2] == (("fork",), "my_fork")


def test_a_static_program_without_symbols_leaves_the_form_of_the_call() -> None:
    found = attribute(SPAWN, stack(*[(PROGRAM, None)] * 5))
    assert who(found) == (("posix_spawn",), None, "fingerprint", True)
    assert found.caller is None


def test_the_code_behind_the_call_tells_clone_where_nothing_has_a_name() -> None:
    ran = ev.Runs(how="clone", fn=0x401000, arg=0)
    found = attribute(USERS_CLONE, stack(*[(PROGRAM, None)] * 3), None, ran)
    assert who(found) == (("clone",), None, "fingerprint", True)
    assert who(attribute(USERS_CLONE, stack(*[(PROGRAM, None)] * 3))) == ((), None, "none", False)


def test_where_vfork_is_a_clone_it_is_not_taken_for_one_that_is_given_a_function() -> None:
    spawn = decode_creation(Arch.AARCH64, 220, (0x4111, 0x7120, 0, 0, 0))
    unnamed = stack(*[(LIBC, None)] * 2, *[(PROGRAM, None)] * 2)
    assert attribute(spawn, unnamed).chain == ("vfork",)
    assert attribute(spawn, unnamed, None, ev.Runs(how="clone", fn=0x401000, arg=0)).chain == ("posix_spawn",)


def test_a_c_library_without_names_leaves_the_form_of_the_call_and_the_caller() -> None:
    found = attribute(THREAD, stack(*libc("__clone", None, None), *MAIN))
    assert who(found) == (("pthread_create",), "start_pool", "fingerprint", True)
    assert "no names" in found.why


def test_system_of_a_stripped_library_is_inferred() -> None:
    found = attribute(SPAWN, stack(*libc(None, None, "posix_spawn", None), *MAIN))
    assert who(found) == (("system", "posix_spawn"), "start_pool", "stack", False)
    assert "do_system" in found.why


def jumping(
    inner: list[tuple[bytes, str | None]], called: tuple[bytes, str], outer: list[tuple[bytes, str | None]] = MAIN,
    offset: int = 0,
) -> CallStack:
    """A stack where start_pool's call was that of a function that jumped to the one that is on the stack.

    ``offset``: where in it the jump is, if that is known.
    """
    found = stack(*inner, *outer)
    frames = list(found.frames)
    frames[len(inner)] = StackFrame(frames[len(inner)].place, "rule", place_of(*called, number=offset))
    return CallStack(1, tuple(frames), "outermost")


@pytest.mark.parametrize(
    ("inner", "called", "chain"),
    [
        (libc("__clone", "__spawni"), "posix_spawnp", ("posix_spawnp",)),  # as glibc for aarch64 has it
        (libc("__clone", "__spawni"), "posix_spawn", ("posix_spawn",)),
        (libc("__clone", None), "posix_spawnp", ("posix_spawnp",)),
        (libc("__clone", None, None), "posix_spawn", ("posix_spawn",)),
        (libc("clone3", None, None, "posix_spawn", "do_system"), "system", ("system", "posix_spawn")),
        (libc(None, None, "posix_spawn", None), "system", ("system", "posix_spawn")),
    ],
)
def test_a_function_that_jumped_on_is_known_by_the_call_of_it(
    inner: list[tuple[bytes, str | None]], called: str, chain: tuple[str, ...]
) -> None:
    found = attribute(SPAWN, jumping(inner, (LIBC, called)))
    assert who(found) == (chain, "start_pool", "stack", True)


def test_a_function_of_the_program_that_jumped_on_is_the_caller_where_its_jump_is_known() -> None:
    inner = libc("clone3", "__spawnix", "posix_spawn")
    found = attribute(SPAWN, jumping(inner, (PROGRAM, "starts"), offset=31))
    assert who(found) == (("posix_spawn",), "starts", "stack", True)
    # Else what it jumped to may have jumped on in its turn.
    found = attribute(SPAWN, jumping(inner, (PROGRAM, "starts")))
    assert who(found) == (("posix_spawn",), "start_pool", "stack", False)


def test_a_function_that_jumped_on_in_a_program_with_its_library_in_it() -> None:
    inner: list[tuple[bytes, str | None]] = [(PROGRAM, "__clone"), (PROGRAM, "__spawni")]
    found = attribute(SPAWN, jumping(inner, (PROGRAM, "posix_spawnp"), MAIN[:2]))
    assert who(found) == (("posix_spawnp",), "start_pool", "stack", True)
    found = attribute(SPAWN, jumping(inner, (PROGRAM, "starts"), MAIN[:2]))
    assert who(found) == (("posix_spawn",), "start_pool", "stack", False)


def test_a_stack_that_contradicts_the_call_is_not_believed() -> None:
    found = attribute(THREAD, stack(*libc("_Fork", "fork"), *MAIN))
    assert who(found) == (("pthread_create",), "start_pool", "fingerprint", True)
    assert "makes a thread" in found.why


def test_a_guessed_frame_makes_it_unsure() -> None:
    found = attribute(FORK, stack(*libc("_Fork", "fork"), *MAIN, how=("register", "rule", "pointer")))
    assert who(found) == (("fork",), "start_pool", "stack", False)
    beyond = attribute(FORK, stack(*libc("_Fork", "fork"), *MAIN, how=("register", "rule", "rule", "pointer")))
    assert beyond.sure, "what is guessed only beyond the caller takes nothing away"


def test_a_guessed_frame_that_adds_nothing_takes_nothing_away() -> None:
    names = ("runtime.clone.abi0", "runtime.newosproc", "runtime.mcall", "runtime.newproc")
    runtime = [(PROGRAM, name) for name in names]
    how: tuple[ev.FrameHow, ...] = ("register", "rule", "rule", "pointer")
    found = attribute(THREAD, stack(*runtime, how=how, end="the frame pointer leads nowhere"))
    assert who(found) == (("runtime.newm",), None, "stack", True)
    called = attribute(THREAD, stack(*runtime, (PROGRAM, "os/exec.(*Cmd).Start"), how=(*how, "pointer")))
    assert not called.sure


def test_a_stack_that_ends_inside_the_library_has_no_caller_and_says_why() -> None:
    found = attribute(FORK, stack(*libc("_Fork", "fork"), end="an unmapped stack pointer"))
    assert who(found) == (("fork",), None, "stack", True)
    assert "an unmapped stack pointer" in found.why


def test_without_a_stack_the_form_of_the_call_is_all() -> None:
    assert who(attribute(FORK, None)) == (("fork",), None, "fingerprint", True)
    assert who(attribute(USERS_CLONE, None)) == ((), None, "none", False)
    assert who(attribute(RAW_FORK, None)) == (("fork",), None, "fingerprint", False)
    assert attribute(THREAD, None, None, ev.Runs(how="raw")).source == "none", "its code is no C library's"
    words: dict[ev.RunsHow, str] = {"nptl": "glibc's descriptor", "rust": "an object of its language's library"}
    for how, why in words.items():
        found = attribute(THREAD, None, None, ev.Runs(how=how, routine=1))
        assert who(found) == (("pthread_create",), None, "fingerprint", True)
        assert why in found.why


def test_a_fork_in_a_signal_handler_is_the_handlers() -> None:
    handler = [(PROGRAM, "on_alarm"), (LIBC, "__restore_rt"), *MAIN]
    found = attribute(FORK, stack(*libc("_Fork", "fork"), *handler, how=("register", "rule", "rule", "rule", "signal")))
    assert who(found) == (("fork",), "on_alarm", "stack", True)


def test_a_32_bit_call_through_the_vdso() -> None:
    found = attribute(VFORK, stack((b"[vdso]", "__kernel_vsyscall"), *libc("__vfork"), *MAIN))
    assert who(found) == (("vfork",), "start_pool", "stack", True)


def test_threads_of_c_plus_plus() -> None:
    inner = [*libc("clone3", "create_thread", "pthread_create"),
             (b"/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "_ZNSt6thread15_M_start_threadESt10unique_ptrI"),
             (PROGRAM, "_ZNSt6threadC1IRFvvEJEvEEOT_DpOT0_")]  # fmt: skip
    found = attribute(THREAD, stack(*inner, (PROGRAM, "_ZN4Pool5startEv"), (PROGRAM, "main")))
    assert who(found) == (("std::thread", "pthread_create"), "_ZN4Pool5startEv", "stack", True)
    deferred = [*inner, (PROGRAM, "_ZNSt13__future_base17_Async_state_implINS"), (PROGRAM, "_ZSt5asyncIPFivEJEENSt")]
    assert attribute(THREAD, stack(*deferred, *MAIN)).chain == ("std::async", "pthread_create")


def test_what_the_compiler_inlined_into_the_caller_is_the_librarys() -> None:
    header = "/usr/include/c++/12/bits/std_thread.h"
    caller = place_of(
        PROGRAM, "later",
        ev.Line("thread<void (State::*)(), State*>", header, 142),
        ev.Line("_Async_state_impl", "/usr/include/c++/12/future", 1700),
        ev.Line("_ZSt5asyncIZ5laterEUlvE_EJEENSt6future", "/usr/include/c++/12/future", 1770),
        ev.Line("_Z5laterv", "/home/me/later.cc", 6),
    )  # fmt: skip
    found = attribute(THREAD, stack(*libc("clone3", "pthread_create"), caller, (PROGRAM, "main")))
    assert found.chain == ("std::async", "pthread_create")
    assert found.caller_line == ev.Line("_Z5laterv", "/home/me/later.cc", 6)


@pytest.mark.parametrize(
    ("function", "library", "call"),
    [
        ("_ZN3std6thread7Builder15spawn_unchecked17h0123456789abcdefE", "Rust", "std::thread::spawn"),
        ("_RNvMs_NtNtNtCs1_3std3sys6thread4unixNtB4_6Thread3new", "Rust", "std::thread::spawn"),
        ("_RNvMNtCsjrHSEGnQ3l9_3std7processNtB2_7Command6status", "Rust", "std::process::Command"),
        ("_ZN3std7process7Command5spawn17h0123456789abcdefE", "Rust", "std::process::Command"),
        ("_RINvCs1_4core3ops8function6FnOnce", "Rust", ""),
        ("_RINvCs1_5myapp3runNtNtCs2_3std6thread7BuilderE", None, ""),
        ("_RNCNvCs1_5myapp4main0B3_", None, ""),
        ("_ZN5myapp4main17h0123456789abcdefE", None, ""),
        ("runtime.newm", "Go", "runtime.newm"),
        ("syscall.forkAndExecInChild1", "Go", "syscall.forkExec"),
        ("os/exec.(*Cmd).Start", "Go os/exec", "os/exec.(*Cmd).Start"),
        ("main.run", None, ""),
        ("_ZNSt6threadC1IRFvvEEEOT_", "C++", "std::thread"),
        ("_ZZSt9call_onceIRFvvEEENKUlvE_clEv", "C++", ""),
        ("_ZN3app6Stream4openEv", None, ""),
        ("uv_spawn", "libuv", "uv_spawn"),
        ("uv_my_own", None, ""),
        ("fork", None, ""),
        ("pthread_create", None, ""),
        ("__interceptor_pthread_create", library_calls.LIBC, "pthread_create"),
    ],
)  # fmt: skip
def test_names_that_tell_their_library_in_any_file(function: str, library: str | None, call: str) -> None:
    found = library_calls.known(function.encode(), PROGRAM)
    assert (None if found is None else found.library, "" if found is None else found.call) == (library, call)


def test_a_program_in_go() -> None:
    names = ["syscall.RawSyscall6", "syscall.forkAndExecInChild1", "syscall.forkExec", "syscall.StartProcess",
             "os.startProcess", "os.StartProcess", "os/exec.(*Cmd).Start", "os/exec.(*Cmd).Run", "main.build",
             "main.main", "runtime.main", "runtime.goexit.abi0"]  # fmt: skip
    found = attribute(clone(0x5111), stack(*[(PROGRAM, name) for name in names]))
    assert who(found) == (("os/exec.(*Cmd).Run", "os.StartProcess", "syscall.forkExec"), "main.build", "stack", True)


def test_glib_and_libuv_call_the_c_library() -> None:
    glib = b"/usr/lib/x86_64-linux-gnu/libglib-2.0.so.0.7400.6"
    inner = [*libc("clone3", "posix_spawn"), (glib, None), (glib, "g_spawn_async_with_pipes"), (glib, "g_spawn_sync")]
    assert attribute(SPAWN, stack(*inner, *MAIN)).chain == ("g_spawn_sync", "posix_spawn")
    uv = b"/usr/lib/x86_64-linux-gnu/libuv.so.1.0.0"
    pool = [*libc("clone3", "pthread_create"), (uv, "uv_thread_create_ex"), (uv, "init_threads"),
            *libc("__pthread_once_slow"), (uv, "uv_once"), (uv, "uv_queue_work")]  # fmt: skip
    found = attribute(THREAD, stack(*pool, *MAIN))
    assert who(found) == (("uv_queue_work", "pthread_create"), "start_pool", "stack", True)


def test_the_jvm() -> None:
    jvm = b"/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so"
    inner = [*libc("clone3", "pthread_create"), (jvm, "_ZN2os13create_threadEP6Thread"), (jvm, "JVM_StartThread")]
    found = attribute(THREAD, stack(*inner, end="the return address 0x7f00 is in no executable mapping"))
    assert found.chain == ("JVM_StartThread", "os::create_thread", "pthread_create")
    assert found.caller is None


PYTHON: Final = b"/usr/bin/python3.11"


def script(*frames: tuple[str, str, int], end: str = "outermost", version: str = "3.11") -> ev.Script:
    told = [ev.ScriptFrame(*frame) for frame in frames]
    return ev.Script(t=0, script=1, language=f"CPython {version}", frames=told, end=end)


BUILD: Final = ("compile_all", "/home/me/build.py", 41)


def test_a_program_in_python_is_told_by_its_own_frames() -> None:
    frames = script(("_execute_child", "/usr/lib/python3.11/subprocess.py", 1830),
                    ("__init__", "/usr/lib/python3.11/subprocess.py", 1024),
                    BUILD, ("<module>", BUILD[1], 60))  # fmt: skip
    extension = b"/usr/lib/python3.11/lib-dynload/_posixsubprocess.cpython-311-x86_64-linux-gnu.so"
    native = [*libc("__vfork"), (extension, None), (PYTHON, None),
              (PYTHON, "_PyEval_EvalFrameDefault"), *libc("__libc_start_call_main")]  # fmt: skip
    found = attribute(VFORK, stack(*native), frames)
    assert found.chain == ("subprocess.Popen", "_posixsubprocess.fork_exec", "vfork")
    assert found.script_calls == 1
    assert found.script_frame == ev.ScriptFrame(*BUILD)
    assert (found.caller, found.source, found.sure) == (None, "stack", True)


LIB: Final = "/usr/lib/python3.11/"
POPEN: Final = ("Popen.__init__", f"{LIB}subprocess.py", 1)
START: Final = ("Thread.start", f"{LIB}threading.py", 1)
LOOP: Final = [(f"Base.{name}", f"{LIB}asyncio/{module}.py", 1) for name, module in
               (("_run", "events"), ("_run_once", "base_events"), ("run", "runners"))]  # fmt: skip
BOOTSTRAP: Final = [(f"Thread.{name}", f"{LIB}threading.py", 1) for name in ("run", "_bootstrap_inner", "_bootstrap")]


@pytest.mark.parametrize(
    ("frames", "calls"),
    [
        ([POPEN], "subprocess.Popen"),
        ([POPEN, ("run", f"{LIB}subprocess.py", 2)], "subprocess.run"),
        ([("start", "/opt/py/lib/python3.11/threading.py", 1)], "threading.Thread.start"),
        ([START, ("submit", f"{LIB}concurrent/futures/thread.py", 2)], "ThreadPoolExecutor.submit"),
        ([START, ("ThreadPoolExecutor.submit", f"{LIB}concurrent/futures/thread.py", 2),
          ("Executor.map.<locals>.<listcomp>", f"{LIB}concurrent/futures/_base.py", 3),
          ("Executor.map", f"{LIB}concurrent/futures/_base.py", 3)], "ThreadPoolExecutor.map"),
        ([("_launch", f"{LIB}multiprocessing/popen_fork.py", 1), ("start", f"{LIB}multiprocessing/process.py", 2)],
         "multiprocessing.Process.start"),
        ([("Pool.__init__", f"{LIB}multiprocessing/pool.py", 1),
          ("BaseContext.Pool", f"{LIB}multiprocessing/context.py", 2)], "multiprocessing.Pool"),
        ([("popen", "<frozen os>", 1)], "os.popen"),
        ([("popen", "/usr/lib/python311.zip/os.pyc", 1)], "os.popen"),
        ([POPEN, ("create_subprocess_exec", f"{LIB}asyncio/subprocess.py", 2)], "asyncio.create_subprocess_exec"),
        ([POPEN, ("create_subprocess_exec", f"{LIB}asyncio/subprocess.py", 2), *LOOP],
         "asyncio.run → asyncio.create_subprocess_exec"),
        ([START, ("BaseEventLoop.run_in_executor", f"{LIB}asyncio/base_events.py", 2)], "loop.run_in_executor"),
        ([POPEN, ("uname_result.processor", f"{LIB}platform.py", 2),
          ("cached_property.__get__", f"{LIB}functools.py", 3)], "platform.uname_result.processor"),
        ([POPEN, ("<module>", f"{LIB}antigravity.py", 2), ("_find_and_load", "<frozen importlib._bootstrap>", 3)],
         "import antigravity"),
        ([], ""),
    ],
)  # fmt: skip
def test_what_of_the_standard_library_was_called(frames: list[tuple[str, str, int]], calls: str) -> None:
    frame, called = asked(script(*frames, BUILD))
    assert " → ".join(called) == calls
    assert frame == ev.ScriptFrame(*BUILD)


@pytest.mark.parametrize(
    "file",
    [
        "/home/me/os.py", "/home/me/threading.py", "/home/me/python3.11/subprocess.py", "subprocess.py",
        "/home/me/Lib/threading.py", "/usr/lib/python3/dist-packages/tool/threading.py",
        "/opt/venv/lib/python3.11/site-packages/pip/_internal/utils/subprocess.py",
        "/usr/lib/python3.11/dist-packages/threading.py", "/usr/lib/python3.12/subprocess.py",
        "/srv/lib/python3.11/our_own/threading.py", "<frozen our_own>", "<string>",
    ],
)  # fmt: skip
def test_what_has_a_name_of_the_standard_library_is_of_it_by_its_place_alone(file: str) -> None:
    inner = ("call_subprocess", file, 151)
    frame, called = asked(script(POPEN, inner, BUILD))
    assert (frame, called) == (ev.ScriptFrame(*inner), ("subprocess.Popen",))


@pytest.mark.parametrize(
    ("frames", "caller", "calls"),
    [
        # A thread of the library's own, a worker process, and a module of it that is a program.
        ([START, ("Queue.put", f"{LIB}multiprocessing/queues.py", 2),
          ("_ExecutorManagerThread.run", f"{LIB}concurrent/futures/process.py", 3), *BOOTSTRAP],
         2, ("multiprocessing.Queue.put",)),
        ([POPEN, ("call", f"{LIB}subprocess.py", 2), *BOOTSTRAP], 1, ("subprocess.Popen",)),
        ([START, ("Server.serve_forever", f"{LIB}multiprocessing/managers.py", 2),
          ("BaseProcess.run", f"{LIB}multiprocessing/process.py", 3),
          ("BaseProcess._bootstrap", f"{LIB}multiprocessing/process.py", 4), BUILD], 1, ("threading.Thread.start",)),
        ([("main", f"{LIB}multiprocessing/forkserver.py", 2), ("<module>", "<string>", 1)], 0, ()),
        ([POPEN, ("EnvBuilder.create", f"{LIB}venv/__init__.py", 2), ("main", f"{LIB}venv/__init__.py", 3),
          ("_run_code", "<frozen runpy>", 4)], 1, ("subprocess.Popen",)),
    ],
)  # fmt: skip
def test_where_no_frame_is_the_programs(
    frames: list[tuple[str, str, int]], caller: int, calls: tuple[str, ...]
) -> None:
    assert asked(script(*frames)) == (ev.ScriptFrame(*frames[caller]), calls)


def test_the_programs_frame_may_be_further_out_than_was_read() -> None:
    assert asked(script(POPEN, end="depth")) == (None, ("subprocess.Popen",))
    assert asked(None) == asked(script()) == (None, ())


def test_a_thread_of_a_library_that_python_has_loaded_is_that_librarys() -> None:
    openblas = b"/opt/lib/libopenblas.so.0"
    native = [*libc("clone3", "pthread_create"), (openblas, "blas_thread_init"), (PYTHON, None)]
    found = attribute(THREAD, stack(*native), script(BUILD))
    assert who(found) == (("pthread_create",), "blas_thread_init", "stack", True)


RUN: Final = "_ZNSt6thread11_State_implINS_8_InvokerISt5tupleIJZ4mainEUlvE_EEEEE6_M_runEv"
FOR_EACH: Final = "_ZSt8for_eachIPiZ4mainEUliE_ET0_T_S3_S2_"
STD_THREAD: Final = "/usr/include/c++/12/bits/std_thread.h"
INVOKE: Final = "/usr/include/c++/12/bits/invoke.h"
IN_RUN: Final = [
    ev.Line("operator()", "a.cpp", 11), ev.Line("__invoke_impl<void>", INVOKE, 61), ev.Line(RUN, STD_THREAD),
]  # fmt: skip
SHIM: Final = "_ZN4core3ops8function6FnOnce40call_once$u7b$$u7b$vtable.shim$u7d$$u7d$17h4bac87aa766b9dceE"
SHORT: Final = "_ZN3std3sys9backtrace28__rust_begin_short_backtrace17h40230f4c96ebc44eE"


def test_what_is_inlined_in_a_librarys_function_is_the_caller() -> None:
    place = place_of(PROGRAM, RUN, *IN_RUN)
    found = attribute(FORK, stack(*libc("_Fork", "fork"), place, (b"/lib/libstdc++.so.6", None), *libc("start_thread")))
    assert (found.chain, found.sure, found.caller_line) == (("fork",), True, IN_RUN[0])
    assert found.caller is not None
    assert function_name(found.caller.place, found.caller_line) == "main::{lambda()#1}"
    helper = ev.Line("helper", "a.cpp", 9)
    place = place_of(PROGRAM, RUN, helper, *IN_RUN)
    found = attribute(FORK, stack(*libc("_Fork", "fork"), place, *libc("start_thread")))
    assert (found.sure, found.caller_line) == (True, helper)
    assert function_name(place, found.caller_line) == "helper"


def test_what_a_thread_was_given_is_the_caller_without_debug_information_too() -> None:
    for names in ([RUN], [SHORT, SHIM]):
        frames = [(PROGRAM, name) for name in names]
        found = attribute(FORK, stack(*libc("_Fork", "fork"), *frames, *libc("start_thread", "clone3")))
        assert who(found) == (("fork",), names[-1], "stack", True)
        assert found.caller_line is None
        # It may have made the system call itself.
        found = attribute(RAW_FORK, stack(*frames, *libc("start_thread", "clone3")))
        assert who(found) == ((), names[-1], "stack", True)


def test_the_caller_in_a_librarys_function_that_no_debug_information_tells_is_not_sure() -> None:
    found = attribute(FORK, stack(*libc("_Fork", "fork"), (PROGRAM, FOR_EACH), *MAIN))
    assert who(found) == (("fork",), FOR_EACH, "stack", False)
    # The library's own code, as debug information tells: the caller is beyond.
    place = place_of(PROGRAM, FOR_EACH, ev.Line("invoke", INVOKE, 1), ev.Line(FOR_EACH))
    found = attribute(FORK, stack(*libc("_Fork", "fork"), place, *MAIN))
    assert who(found) == (("fork",), "start_pool", "stack", True)
    made = [*libc("clone3", "pthread_create"), (b"/lib/libstdc++.so.6", "_ZNSt6thread15_M_start_threadE")]
    found = attribute(THREAD, stack(*made, (PROGRAM, FOR_EACH), *MAIN))
    assert who(found) == (("std::thread", "pthread_create"), "start_pool", "stack", False)


def test_where_a_program_begins_in_a_stripped_c_library_is_no_call_of_it() -> None:
    python = [(PYTHON, None), (PYTHON, "Py_BytesMain")]
    begins = [(LIBC, None), (LIBC, "__libc_start_main"), (PYTHON, "_start")]
    for outer in (begins, [(LIBC, None), (LIBC, None)]):
        found = attribute(VFORK, stack(*libc("vfork"), *python, *outer), script(BUILD))
        assert (found.chain, found.source, found.sure) == (("vfork",), "stack", True)
    found = attribute(VFORK, stack(*libc("vfork"), *python, *begins[:2], end="depth"), script(BUILD))
    assert found.sure
    found = attribute(VFORK, stack(*libc("vfork"), *python, (LIBC, None), end="depth"), script(BUILD))
    assert not found.sure


def test_the_caller_is_told_with_its_source_and_without_a_name() -> None:
    line = ev.Line("start_pool", "src/pool.c", 88)
    caller = place_of(PROGRAM, "start_pool", line)
    found = attribute(THREAD, stack(*libc("clone3", "pthread_create"), caller, (PROGRAM, "main")))
    assert (found.chain, found.caller_line) == (("pthread_create",), line)
    by_form = attribute(SPAWN, None)
    assert (by_form.chain, by_form.source, by_form.caller) == (("posix_spawn",), "fingerprint", None)
    nameless = attribute(FORK, stack(*libc("_Fork", "fork"), (PROGRAM, None)))
    assert nameless.chain == ("fork",)
    assert nameless.caller is not None
    assert (nameless.caller.place.function, nameless.caller.place.path, nameless.caller.place.address) == (
        None, PROGRAM, 0x1003,
    )  # fmt: skip
    assert attribute(USERS_CLONE, None).chain == ()


names = st.sampled_from(
    [None, "fork", "clone3", "posix_spawn", "__spawni", "do_system", "start_thread", "main", "pthread_create",
     "syscall", "runtime.newm", "_ZNSt6thread15_M_start_threadEv", "_ZN3std6thread5spawn17h0E", "uv_spawn",
     "\N{SNOWMAN}", ""]
)  # fmt: skip
paths = st.sampled_from([b"", LIBC, PROGRAM, PYTHON, b"[vdso]", b"libstdc++.so.6", b"/lib/ld-musl-i386.so.1", b"\xff"])


@settings(max_examples=120, deadline=None)
@given(
    frames=st.lists(st.tuples(paths, names), max_size=8),
    how=st.lists(st.sampled_from(["register", "rule", "pointer", "signal", "wrapper"]), max_size=8),
    flags=st.sampled_from([0x11, 0x1200011, 0x3D0F00, 0x4111, 0x111]),
    ran=st.none() | st.builds(ev.Runs, how=st.sampled_from(["clone", "nptl", "musl", "go", "raw"])),
)
def test_any_stack_has_an_answer_that_holds_together(
    frames: list[tuple[bytes, str | None]], how: list[ev.FrameHow], flags: int, ran: ev.Runs | None
) -> None:
    made = decode_creation(Arch.X86_64, syscalls.number(Arch.X86_64, "clone"), (flags, 0, 0, 0, 0))
    seen = stack(*frames, how=how)
    found = attribute(made, seen, None, ran)
    assert found.why
    assert found.caller is None or found.caller in seen.frames
    assert found.source != "none" or (found.chain == () and not found.sure)
    if found.source == "stack" and found.sure and found.caller is not None:
        until = seen.frames.index(found.caller)
        assert all(frame.sure for frame in seen.frames[: until + 1])
