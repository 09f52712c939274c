"""The only code that makes calls about other tasks: ptrace, memory, kcmp, seccomp, fork, wait, kill, /proc.

Errors of the kernel leave this folder as :class:`OSError`; errno is read nowhere else.
"""
