"""ptrace(2), wait statuses, seizing, starting a traced program, and its seccomp filter."""
