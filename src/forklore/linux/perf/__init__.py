"""perf_event_open(2): what the kernel tells beside its samples, and tracepoints, read out of mapped rings."""
