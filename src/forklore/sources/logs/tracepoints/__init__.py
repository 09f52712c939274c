"""The kernel's tracepoints as text: what perf script, tracefs, trace-cmd and bpftrace print of them."""
