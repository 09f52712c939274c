"""profiled.py CALLS COMMAND...: executes a command under a seccomp filter, as a container's profile may be (x86_64).

CALLS, numbers with commas between, are answered with EPERM. Who calls by another ABI than the machine's own is killed:
that is what libseccomp does with one that a profile does not list.
"""

import ctypes
import os
import struct
import sys

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_KILL, _EPERM, _ALLOW = 0x8000_0000, 0x0005_0001, 0x7FFF_0000
_X86_64, _X32 = 0xC000_003E, 0x4000_0000


def main() -> None:
    refused = [int(word) for word in sys.argv[1].split(",") if word]
    lines = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, _X86_64), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    lines += [(_JUMP_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for number in refused:
        lines += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)]
    lines.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("@HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in ((38, 1, 0, 0, 0), (22, 2, ctypes.c_void_p(ctypes.addressof(program)), 0, 0)):
        if libc.prctl(*words) != 0:  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
            raise OSError(ctypes.get_errno(), f"prctl{words[:2]}")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
