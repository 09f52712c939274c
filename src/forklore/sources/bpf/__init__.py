"""The kernel's own events, by BPF programs: nothing is stopped. Gives a header and an iterator of events."""
