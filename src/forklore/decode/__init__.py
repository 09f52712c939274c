"""From registers and bytes to typed calls, from flags to meaning, from errno to the rule that was broken.

Pure: no system call, no clock, no file. Works for every arch on any host.
"""
