"""Which functions belong to the libraries that make processes and threads, and what their callers know them by.

A C library's functions count only in its own files: a program may well have a ``system`` or ``fork_server`` of its own.
Names that only a compiler makes (C++ and Rust mangling, Go's packages) count in any file, since such libraries are
compiled into the program.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

from forklore.abi.patterns import regex

LIBC: Final = "C library"
_REMEMBERED: Final = 4096


class Known(Struct, frozen=True):
    """A function of a library."""

    library: str
    call: str
    """The documented call that it is or is a part of; empty for code that serves several."""


_LIBC_FILE: Final = regex(
    rb"(?:lib(?:c|pthread|rt|anl|util)(?:-\d[\d.]*)?\.so|libc\.musl-|ld-(?:linux|musl|\d)|\[vdso\]$)"
)
_LIBC_FORMS: Final[dict[str, str]] = {
    "fork": "fork __fork __libc_fork",
    "_Fork": "_Fork",
    "vfork": "vfork __vfork __libc_vfork",
    "clone": "clone __clone __clone2",
    "clone3": "clone3 __clone3 __clone3_internal __clone_internal __clone_internal_fallback",
    "syscall": "syscall",
    "posix_spawn": "posix_spawn __posix_spawn __posix_spawn_compat __spawni __spawnix __spawn_process",
    "posix_spawnp": "posix_spawnp __posix_spawnp __posix_spawnp_compat",
    "pidfd_spawn": "pidfd_spawn __pidfd_spawn",
    "pidfd_spawnp": "pidfd_spawnp __pidfd_spawnp",
    "system": "system __libc_system do_system",
    "popen": "popen _IO_popen _IO_new_popen __new_popen _IO_proc_open _IO_new_proc_open spawn_process",
    "wordexp": "wordexp exec_comm exec_comm_child parse_comm parse_backtick parse_dollars do_wordexp",
    "forkpty": "forkpty __forkpty",
    "daemon": "daemon __daemon",
    "pthread_create": "pthread_create __pthread_create __pthread_create_2_0 __pthread_create_2_1 create_thread "
                      "do_clone",
    "thrd_create": "thrd_create __thrd_create",
    "timer_create": "timer_create __timer_create ___timer_create timer_create_sigev_thread __timer_create_new "
                    "__timer_create_old __timer_start_helper_thread __start_helper_thread start_helper_thread "
                    "timer_helper_thread",
    "mq_notify": "mq_notify __mq_notify init_mq_netlink",
    "getaddrinfo_a": "getaddrinfo_a __getaddrinfo_a __gai_enqueue_request __gai_create_helper_thread",
    "aio_read": "aio_read aio_read64 __aio_read",
    "aio_write": "aio_write aio_write64 __aio_write",
    "aio_fsync": "aio_fsync aio_fsync64 __aio_fsync",
    "lio_listio": "lio_listio lio_listio64 lio_listio_internal __lio_listio_21 __lio_listio_24 "
                  "__lio_listio_item_notify",
}  # fmt: skip
_LIBC_CALLS: Final = {name.encode(): call for call, names in _LIBC_FORMS.items() for name in names.split()}
_LIBC_SHARED: Final = frozenset(
    b"__pthread_once __pthread_once_slow pthread_once ___pthread_once __aio_enqueue_request __aio_create_helper_thread "
    b"__restore_rt __restore_rt_sigreturn call_once".split()
)
_OUTERMOST: Final = frozenset(
    b"_start __libc_start_main __libc_start_main_impl __libc_start_call_main generic_start_main start_thread start "
    b"start_c11 libc_start_main_stage2".split()
)
"""Where a program or thread begins: no caller of anything."""

_SUFFIX: Final = regex(rb"(?:@.*|\.(?:part|constprop|isra|cold|lto_priv|llvm)(?:\.\d+)*)+$")
_INTERCEPTOR: Final = regex(rb"(?:___?interceptor_|__interceptor_trampoline_|__wrap_)(?=\w)")
_SANITIZER_FILE: Final = regex(rb"lib(?:a|t|l|m|ub|hwa)san\.so")

_CPP_FILE: Final = regex(rb"lib(?:std)?c\+\+\.so")
_CPP: Final = regex(rb"_ZZ?N?K?St|_ZZ?NK?9__gnu_cxx")
_CPP_CALLS: Final = (
    (regex(rb"_ZN?K?St(?:\d__\d)?(?:5async|\d+__future_base\d+_Async_state_impl|\d+__async_assoc_state)"),
     "std::async"),
    (regex(rb"_ZN?K?St(?:\d__\d)?7jthread"), "std::jthread"),
    (regex(rb"_ZN?K?St(?:\d__\d)?6thread"), "std::thread"),
)  # fmt: skip
"""By how a name begins: in template arguments the same words say nothing."""
_CPP_HEADER: Final = regex(rb"/c\+\+/(?:v?\d|experimental)")
_CPP_INLINED: Final = (
    (regex(rb"async\b|_Async_state_|__async_assoc_state"), "std::async"),
    (regex(rb"jthread\b"), "std::jthread"),
    (regex(rb"thread\b|_M_start_thread"), "std::thread"),
)
"""Of functions that debug information names without their namespaces."""

_RUST: Final = regex(
    rb"_ZN(?:3std|4core|5alloc)\d|_ZN\d+_\$LT\$(?:std|core|alloc)\.\."
    rb"|_R(?:N[a-zA-Z]|I|[MX](?:s[0-9a-zA-Z]*_)?|Y)*C(?:s[0-9a-zA-Z]*_)?(?:3std|4core|5alloc)"
)
"""By the crate that a name begins with; those of generic arguments come later in it (RFC 2603)."""
_RUST_SOURCE: Final = regex(rb"/(?:rustc[^/]*|src)/(?:[^/]+/)?library/|^/rust/deps/")
_RUST_PROCESS: Final = regex(rb"(?:7process|\.\.process\.\.).*Command")
_RUST_THREAD: Final = regex(rb"6thread(?!6scoped5scope)|\.\.thread\.\.")
_RUNS_GIVEN: Final = regex(
    rb"_ZNSt(?:6thread11_State_impl|13__future_base\d+_Async_state_impl).*6_M_runEv$|_.*28_*rust_begin_short_backtrace"
    rb"|_ZN4core3ops8function6FnOnce\d+call_once\$u7b\$|_R.*15spawn_unchecked.*9call_once6vtable",
    re.DOTALL,
)
"""What a thread of these libraries begins with, and what calls main in Rust."""

_GO: Final = regex(rb"(?:runtime|syscall|os|os/exec|internal/[\w/]+|runtime/[\w/]+)\.[\w(]")
_GO_CGO: Final = regex(rb"_?x?_cgo_(?:sys_)?(?:thread_start|init)|_cgo_try_pthread_create")
_GO_CALLS: Final = (
    (regex(rb"os/exec\.\(\*Cmd\)\.\w+$"), "Go os/exec", ""),
    (regex(rb"(?:os|syscall)\.[sS]tartProcess$"), "Go os", "os.StartProcess"),
    (regex(rb"syscall\.fork(?:Exec|AndExecInChild\d?)$"), "Go", "syscall.forkExec"),
    (regex(rb"runtime\.(?:newosproc\w*|newm1?|startm|templateThread)$"), "Go", "runtime.newm"),
)
"""Empty: the name as it is."""

_INTERPRETER: Final = rb"libpython\d|python\d*(?:\.\d+)?[a-z]*$"
INTERPRETER_FILE: Final = regex(_INTERPRETER)
"""Matches the base name of the file that CPython itself is in."""
_PYTHON_FILE: Final = regex(_INTERPRETER + rb"|_posixsubprocess[.\w-]*\.so$")
_PYTHON_CALLS: Final = (
    (regex(rb"_posixsubprocess|subprocess_fork_exec|_posixsubprocess_fork_exec\w*|do_fork_exec"),
     "_posixsubprocess.fork_exec"),
    (regex(rb"os_forkpty(?:_impl)?$"), "os.forkpty"),
    (regex(rb"os_fork(?:_impl)?$"), "os.fork"),
    (regex(rb"os_posix_spawnp(?:_impl)?$"), "os.posix_spawnp"),
    (regex(rb"(?:os|py)_posix_spawn(?:_impl)?$"), "os.posix_spawn"),
    (regex(rb"os_system(?:_impl)?$"), "os.system"),
    (regex(rb"PyThread_start_(?:new|joinable)_thread|do_start_(?:new|joinable)_thread|ThreadHandle_start$|"
                rb"thread_PyThread_start_(?:new|joinable)_thread"), "_thread.start_new_thread"),
)  # fmt: skip

_GLIB_FILE: Final = regex(rb"lib(?:glib|gio|gthread)-2\.0\.so")
_GLIB_CALL: Final = regex(
    rb"g_(?:spawn_\w+|thread_(?:try_)?new|thread_create\w*|thread_pool_\w+|subprocess_\w+|task_run_in_thread\w*)$"
)
_UV_FILE: Final = regex(rb"libuv\.so")
_UV_CALLS: Final = {
    b"uv_spawn": "uv_spawn", b"uv__spawn_and_init_child": "uv_spawn", b"uv__spawn_and_init_child_fork": "uv_spawn",
    b"uv_thread_create": "uv_thread_create", b"uv_thread_create_ex": "uv_thread_create",
    b"uv_queue_work": "uv_queue_work", b"uv_once": "", b"uv__work_submit": "",
}  # fmt: skip

_JVM_FILE: Final = regex(rb"lib(?:jvm|java)\.so$")
_JVM_CALLS: Final = (
    (regex(rb"_ZN2os13create_thread"), "os::create_thread", "JVM"),
    (regex(rb"JVM_StartThread$"), "JVM_StartThread", "JVM interface"),
    (regex(rb"Java_java_lang_(?:UNIXProcess|ProcessImpl)_forkAndExec$"), "ProcessImpl.forkAndExec", "JVM"),
)


@lru_cache(_REMEMBERED)
def known(function: bytes | None, path: bytes) -> Known | None:
    """The library that a function of the file at ``path`` belongs to; None for a program's own, or of other libraries.

    A function of these libraries' files that has no name of its own belongs to them as well.
    """
    name = b"" if function is None else _bare(function)
    base = path.removesuffix(b" (deleted)").rpartition(b"/")[2]
    if _LIBC_FILE.match(base):
        return Known(LIBC, _libc_call(name))
    intercepted = _INTERCEPTOR.match(name)
    if intercepted or _SANITIZER_FILE.match(base):
        return Known(LIBC if intercepted else "sanitizer", _libc_call(name[intercepted.end() :]) if intercepted else "")
    if _PYTHON_FILE.match(base):
        extension = base if base.startswith(b"_") else name
        return Known("CPython", _first(_PYTHON_CALLS, extension))
    if _GLIB_FILE.match(base):
        return Known("GLib", name.decode() if _GLIB_CALL.match(name) else "")
    if _UV_FILE.match(base):
        return Known("libuv", _UV_CALLS.get(name, ""))
    if _JVM_FILE.match(base):
        return next((Known(part, call) for form, call, part in _JVM_CALLS if form.match(name)), Known("JVM", ""))
    if _CPP_FILE.match(base):
        return Known("C++", _first(_CPP_CALLS, name))
    return by_name(name)


def by_name(name: bytes) -> Known | None:
    """The library of a function whose name no program would give to one of its own."""
    if _CPP.match(name):
        return Known("C++", _first(_CPP_CALLS, name))
    if _RUST.match(name):
        thread = "std::thread::spawn" if _RUST_THREAD.search(name) else ""
        return Known("Rust", "std::process::Command" if _RUST_PROCESS.search(name) else thread)
    if name in _UV_CALLS:
        return Known("libuv", _UV_CALLS[name])
    if _GO_CGO.match(name):
        return Known("Go", "runtime.newm")
    return _go(name) if _GO.match(name) else None


def takes_in(found: Known, function: bytes | None, path: bytes) -> bool:
    """Whether code of the program can be inlined into that function of a library: it is a template's or generic."""
    library = _CPP_FILE.match(path.rpartition(b"/")[2])
    return found.library in ("C++", "Rust") and function is not None and library is None


def runs_given(function: bytes | None) -> bool:
    """Whether that function of C++'s or Rust's library does nothing but run what the program gave to it."""
    return function is not None and _RUNS_GIVEN.match(function) is not None


def inlined(function: bytes, file: bytes) -> Known | None:
    """The library of a function that the compiler inlined, from its name and the source file that its code is in."""
    found = by_name(function)
    if found is not None:
        return found
    if _CPP_HEADER.search(file):
        return Known("C++", _first(_CPP_INLINED, function))
    return Known("Rust", "") if _RUST_SOURCE.search(file) else None


def libc_by_name(function: bytes | None) -> Known | None:
    """What a function is if its C library is linked into the program; only the name tells it."""
    call = "" if function is None else _libc_call(_bare(function))
    return Known(LIBC, call) if call or shared(function) else None


def shared(function: bytes | None) -> bool:
    """Whether several calls of a C library go through that function of it."""
    return function is not None and _bare(function) in _LIBC_SHARED


def begins(function: bytes | None) -> bool:
    """Whether a program or a thread begins in that function of the C library."""
    return function is not None and _bare(function) in _OUTERMOST


def _bare(function: bytes) -> bytes:
    """Without what the compiler, the linker and glibc (for calls inside of it) add to a name."""
    return _SUFFIX.sub(b"", function).removeprefix(b"__GI_")


def _libc_call(name: bytes) -> str:
    return _LIBC_CALLS.get(name, "")


def _go(name: bytes) -> Known:
    name = name.removesuffix(b".abi0")
    for form, library, call in _GO_CALLS:
        if form.match(name):
            return Known(library, call or name.decode())
    return Known("Go", "")


def _first(forms: tuple[tuple[re.Pattern[bytes], str], ...], name: bytes) -> str:
    return next((call for form, call in forms if form.match(name)), "")
