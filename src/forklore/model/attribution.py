"""Who made a child: the library calls behind its creation, and the code that called the outermost of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

from forklore.decode.creation import Creation
from forklore.decode.library_forms import PROCESS_CALLS, THREAD_CALLS, Fingerprint, fingerprint
from forklore.events import records as ev
from forklore.model import library_calls
from forklore.model.library_calls import LIBC, Known
from forklore.model.script_calls import asked
from forklore.model.stacks import CallStack, StackFrame

Told = Literal["stack", "log", "fingerprint", "none"]

_WRAPPERS: Final = frozenset({"clone", "clone3"})
"""What other functions of a C library call to make the system call; ``clone`` is a program's own call as well."""
_SAME: Final = {"_Fork": "fork", "posix_spawnp": "posix_spawn", "pidfd_spawnp": "pidfd_spawn"}
"""Calls that look alike to the kernel."""


class Attribution(Struct, frozen=True):
    """Who made a child, and how that is known."""

    chain: tuple[str, ...]
    """Library calls, the outermost first, without the system call: ``("popen", "posix_spawn")``. Empty where the
    program makes the system call itself, or where it is not known (:attr:`source`)."""
    caller: StackFrame | None
    """The first frame outside of these libraries."""
    caller_line: ev.Line | None
    """The source of that frame: of the innermost function there that is not a library's inlined one."""
    script_frame: ev.ScriptFrame | None
    """For a program in an interpreter: the innermost frame outside of the standard library."""
    script_calls: int
    """How many calls of that library ``chain`` begins with."""
    source: Told
    sure: bool
    """No guess is in it: every frame up to the caller was found by rules, and names and call agree."""
    why: str
    """What tells it, and what is wrong with it where it is not sure."""


def usual(creation: Creation, found: Attribution | None) -> bool:
    """Whether the call is just what the library function that made it, or the plain fork that it is, always makes."""
    if found is not None and found.source == "log" and creation.flags.raw is None:
        return True  # the library's function is all that is known
    made = fingerprint(creation)
    if made is None:
        return creation.call in ("fork", "vfork")
    chain = () if found is None else found.chain
    return _SAME.get(chain[-1], chain[-1]) == made.call if chain else made.call in ("fork", "vfork")


class _Walk(Struct):
    """What a stack says, from the innermost frame out."""

    calls: list[Known]
    caller: StackFrame | None = None
    by_name: bool = False
    """No frame lies in a C library's own file."""
    hidden: bool = False
    """The caller called a function of the C library that is no known call, or has no name."""
    guessed: bool = False
    by_hand: bool = False
    """The system call is made outside of any library."""
    jumped: bool = False
    """A function of the program that has left no frame may have made the call."""
    within: bool = False
    """The caller may be inlined into a function of a library: there is no debug information of it."""

    @property
    def certain(self) -> bool:
        return not (self.guessed or self.within or self.jumped)


def attribute(
    creation: Creation,
    stack: CallStack | None,
    script: ev.Script | None = None,
    runs: ev.Runs | None = None,
    library: str | None = None,
) -> Attribution:
    """Who made the child of ``creation``, from what was seen of its creator at that moment.

    ``library``: the library's function that a log names.
    """
    if library is not None and not _contradiction(creation, (library,)):
        return Attribution((library,), None, None, None, 0, "log", True, "the log has the library's call")
    made = fingerprint(creation)
    walked = None if stack is None or not stack.frames else _walk(stack)
    frame, calls = asked(script)
    chain, source, sure, why = _told(creation, made, walked, runs)
    caller = None if walked is None else walked.caller
    line = None if caller is None else _own_line(caller)
    if source == "stack" and caller is None and stack is not None and frame is None and stack.end != "outermost":
        why = f"{why}; the stack ends before its caller: {stack.end}"
    return Attribution((*calls, *chain), caller, line, frame, len(calls), source, sure, why)


def _told(
    creation: Creation, made: Fingerprint | None, walked: _Walk | None, runs: ev.Runs | None
) -> tuple[tuple[str, ...], Told, bool, str]:
    if walked is None:
        return _by_form(made, runs, "there is no stack")
    if walked.by_hand:
        if runs is not None and runs.how in ("nptl", "musl", "go", "clone", "c++", "rust"):
            return _by_form(made, runs, "the function that makes the system call is not known")
        if not walked.by_name:
            return (), "stack", walked.certain, "the program makes the system call itself"
        if walked.caller is None:
            return _by_form(made, runs, "no function on the stack has a name")
        return (), "stack", False, "the function that makes the system call is none that is known of a C library"
    if walked.hidden:
        walked.calls = _with_system(walked.calls)
    chain = _chain(walked.calls)
    if not chain or (walked.hidden and set(chain) <= _WRAPPERS) or chain == ("clone3",):
        return _by_form(made, runs, "the C library's functions on the stack have no names")
    against = _contradiction(creation, chain)
    if against:
        return _by_form(made, runs, against)
    if walked.by_name and walked.calls[0].library == LIBC:
        by_code = chain[-1] == "clone" and runs is not None and runs.how == "clone"
        same_form = made is not None and _SAME.get(chain[-1], chain[-1]) == made.call
        agrees = by_code or same_form or chain == ("syscall",)
        why = "by the names of functions in a program that its C library is linked into"
        suffix = ", and the form of the call agrees" if agrees else ", which the form of the call cannot confirm"
        return chain, "stack", agrees and walked.certain, why + suffix
    if walked.guessed:
        return chain, "stack", False, "by the functions on the stack, of which some frames are guessed"
    if walked.jumped:
        why = "by the functions on the stack; one that the caller called went on by a jump, and left no frame"
        return chain, "stack", False, why
    if walked.within:
        why = "by the functions on the stack; one of a library may have the caller inlined in it"
        return chain, "stack", False, f"{why}, which only debug information would tell"
    if walked.hidden:
        why = "by the functions on the stack; one of the C library without a name lies below the named ones"
        return chain, "stack", False, f"{why}, as do_system() does in system()" if "system" in chain else why
    return chain, "stack", True, "by the functions on the stack"


def _by_form(made: Fingerprint | None, runs: ev.Runs | None, because: str) -> tuple[tuple[str, ...], Told, bool, str]:
    how = None if runs is None else runs.how
    if how in ("nptl", "c++", "rust") and runs is not None and runs.unknown is None:
        given = "glibc's descriptor" if how == "nptl" else "an object of its language's library"
        return ("pthread_create",), "fingerprint", True, f"{because}; what the thread is given is {given}"
    if how == "clone" and made is None:
        return ("clone",), "fingerprint", True, f"{because}; the code behind the call is a C library's clone()"
    if how == "clone" and made is not None and made.call == "vfork":
        # Where vfork() is a clone (aarch64), its child returns from the call: it has no function to begin with.
        text = f"{because}; the call has the form of {made.library}'s posix_spawn()"
        return ("posix_spawn",), "fingerprint", False, text
    if how == "raw" and made is not None:
        return (), "none", False, f"{because}; the call looks like {made.call} of {made.library}, but is made otherwise"
    if made is None or not made.call:
        like = "" if made is None else f"; {made.why}"
        return (), "none", False, f"{because}, and the call has no library's form{like}"
    whose = f"{made.library}'s" if made.library else "a C library's"
    return (made.call,), "fingerprint", made.sure, f"{because}; the call has the form of {whose}: {made.why}"


def _walk(stack: CallStack) -> _Walk:
    in_library = any(_is_libc(frame) for frame in stack.frames)
    walked = _Walk([], by_name=not in_library)
    others = guessed = False
    frames = list(_frames(stack))
    frames = frames[: _beginning(stack, frames)]
    for index, (frame, on_stack) in enumerate(frames):
        guessed = guessed or not frame.sure
        place = frame.place
        found = library_calls.known(place.function, place.path)
        if found is None and not in_library and not others:
            found = library_calls.libc_by_name(place.function)
        if index and found is not None and found.library == LIBC and library_calls.begins(place.function):
            break
        own = found is None
        if found is not None and on_stack and library_calls.takes_in(found, place.function, place.path):
            own = _takes_in(walked, frame, found)
        if found is None or own:
            if not on_stack and place.offset == 0:
                walked.jumped = True  # what it jumped to need not be what is on the stack
                continue
            walked.by_hand = index == 0
            if not walked.by_hand or in_library or place.function is not None:
                walked.caller = frame if found is None else _begins(frame, frames[index + 1 :])
            walked.guessed = guessed
            _inlined(walked, frame)
            break
        if found.call:  # what says nothing cannot be wrong
            walked.guessed = guessed
        others = others or found.library != LIBC
        if others and found.library == LIBC and found.call in _WRAPPERS:
            # Below another library's code: where its thread began.
            break
        if found.library == LIBC:
            walked.hidden = not found.call and not library_calls.shared(place.function)
        walked.calls.append(found)
    return walked


def outside_library(stack: CallStack) -> tuple[StackFrame, ev.Line | None] | None:
    """The innermost frame outside of the C library, and its source; where all are in it, the innermost of all."""
    frames = stack.frames
    found = next((frame for frame in frames if not _is_libc(frame)), frames[0] if frames else None)
    return None if found is None else (found, _line(found))


def _beginning(stack: CallStack, frames: list[tuple[StackFrame, bool]]) -> int:
    """Where the frames begin in which a program or thread of a C library begins, whose names a stripped one lacks."""
    end, whole = len(frames), stack.end == "outermost"
    while end:
        frame = frames[end - 1][0]
        begins = library_calls.begins(frame.place.function)
        if not (begins or _is_libc(frame)):
            break
        whole = whole or begins
        end -= 1
    return end if end and whole else len(frames)


def _takes_in(walked: _Walk, frame: StackFrame, found: Known) -> bool:
    """Whether code of the program made the call in a frame of a library's template or generic function."""
    lines = frame.place.lines
    if any(_inlined_library(line) is None for line in lines[:-1]):
        return True
    if library_calls.runs_given(frame.place.function):
        return True
    if found.call or lines:
        return False  # it makes the call itself, or debug information says that the code is all the library's
    walked.within = True
    return all(one.library == LIBC for one in walked.calls)


def _begins(frame: StackFrame, outer: list[tuple[StackFrame, bool]]) -> StackFrame:
    # Functions that run what they are given are alike for many closures, and linkers and compilers make one of them:
    # the outermost is the one that names this closure.
    if _own_line(frame) is not None:
        return frame
    for following, _on_stack in outer:
        if not library_calls.runs_given(following.place.function):
            break
        frame = following
    return frame


def _frames(stack: CallStack) -> Iterator[tuple[StackFrame, bool]]:
    """Frames, and between them the functions that have left none; whether it is on the stack."""
    for frame in stack.frames:
        if frame.called is not None:
            yield StackFrame(frame.called, frame.how), False
        yield frame, True


def _is_libc(frame: StackFrame) -> bool:
    found = library_calls.known(frame.place.function, frame.place.path)
    return found is not None and found.library == LIBC and frame.place.path not in (b"", b"[vdso]")


def _inlined(walked: _Walk, frame: StackFrame) -> None:
    """Take the library functions that the compiler inlined into the caller for calls as well."""
    for line in frame.place.lines[:-1]:
        found = _inlined_library(line)
        if found is None:
            return
        walked.calls.append(found)


def _inlined_library(line: ev.Line) -> Known | None:
    function = b"" if line.function is None else ev.raw_bytes(line.function)
    return library_calls.inlined(function, b"" if line.file is None else ev.raw_bytes(line.file))


def _line(frame: StackFrame) -> ev.Line | None:
    lines = frame.place.lines
    for line in lines[:-1]:
        if _inlined_library(line) is None:
            return line
    return lines[-1] if lines else None


def _own_line(caller: StackFrame) -> ev.Line | None:
    place, line = caller.place, _line(caller)
    of_library = library_calls.known(place.function, place.path) is not None
    return None if line is not None and line is place.lines[-1] and of_library else line


def _with_system(calls: list[Known]) -> list[Known]:
    # glibc's system() ends with a jump to do_system(), which no table but .symtab names, and that calls posix_spawn().
    # Every other function of it that does so is exported (sysdeps/posix/system.c).
    last = max(index for index, found in enumerate(calls) if found.library == LIBC)
    named = {found.call for found in calls if found.library == LIBC} - _WRAPPERS - {""}
    return [*calls[:last], Known(LIBC, "system"), *calls[last + 1 :]] if named == {"posix_spawn"} else calls


def _chain(calls: list[Known]) -> tuple[str, ...]:
    """The documented calls among the functions of a stack, the outermost first."""
    chain: list[Known] = []
    for found in calls:  # from the innermost on
        if not found.call or (chain and chain[-1].call == found.call):
            continue
        if found.library != LIBC:
            # Of another library only the outermost call is what its caller made.
            chain = [one for one in chain if one.library != found.library]
        elif chain and chain[-1].library == LIBC and _is_part(chain[-1].call, found.call):
            chain.pop()
        chain.append(found)
    return tuple(one.call for one in reversed(chain))


def _is_part(inner: str, outer: str) -> bool:
    return inner in _WRAPPERS or (inner, outer) in (("_Fork", "fork"), ("posix_spawn", "posix_spawnp"),
                                                    ("posix_spawn", "pidfd_spawn"), ("posix_spawn", "pidfd_spawnp"),
                                                    ("pidfd_spawn", "pidfd_spawnp"))  # fmt: skip


def _contradiction(creation: Creation, chain: tuple[str, ...]) -> str:
    thread = creation.is_thread
    if thread and chain[-1] in PROCESS_CALLS:
        return f"the stack leads to {chain[-1]}, but the call makes a thread"
    if thread is False and chain[-1] in THREAD_CALLS:
        return f"the stack leads to {chain[-1]}, but the call makes a process"
    return ""
