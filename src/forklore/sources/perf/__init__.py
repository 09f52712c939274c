"""Events without BPF and without stops: what perf_event_open(2) tells of tasks."""
