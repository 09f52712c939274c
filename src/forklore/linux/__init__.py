"""The only code that makes system calls: ptrace, memory, seccomp, wait, /proc.

Errors of the kernel leave this folder as :class:`OSError`; errno is read nowhere else.
"""
