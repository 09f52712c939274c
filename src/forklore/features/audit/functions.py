"""The functions that are audited, as the probe knows them."""

from __future__ import annotations

from typing import Final

FORKS: Final = ("fork", "_Fork", "vfork", "clone", "clone/VM")
SPAWNS: Final = (
    "posix_spawn", "posix_spawn/SETSIGDEF", "posix_spawn/SETSIGMASK", "posix_spawn/SETPGROUP", "posix_spawn/SETSID",
    "posix_spawn/RESETIDS", "posix_spawn/actions", "posix_spawn/ENOENT", "posix_spawnp", "pidfd_spawn",
    "posix_spawn/SETCGROUP",
)  # fmt: skip
USERS: Final = ("system", "popen", "wordexp", "forkpty", "daemon")
THREADS: Final = (
    "pthread_create", "pthread_create/detached", "pthread_create/stack", "pthread_create/affinity", "thrd_create",
)  # fmt: skip
HELPERS: Final = ("timer_create", "mq_notify", "getaddrinfo_a", "aio_read")
"""Functions that make threads of the library's own."""

FUNCTIONS: Final = FORKS + SPAWNS + USERS + THREADS + HELPERS
MODES: Final = ("single", "multi")

JOINED: Final = (2, 34)
"""The glibc that took libpthread, librt, libutil, libanl and libdl into libc."""

_NEEDS: Final = {
    "libpthread.so.0": (*THREADS, *HELPERS),
    "librt.so.1": ("timer_create", "mq_notify", "aio_read"),
    "libutil.so.1": ("forkpty",),
    "libanl.so.1": ("getaddrinfo_a",),
}


def parts(function: str, mode: str, glibc: tuple[int, ...]) -> list[str]:
    """What a program that calls ``function`` is linked with besides libc.so.6, before these libraries were joined."""
    if glibc >= JOINED:
        return []
    return [
        name for name, users in _NEEDS.items()
        if function in users or (name == "libpthread.so.0" and mode == "multi")
    ]  # fmt: skip
