"""A make whose jobserver has lost its token: a program has taken it and does not give it back (GNU make before 4.4).

The first job takes no token, the second waits for one. The pipe of the jobserver is named in MAKEFLAGS.
"""

from __future__ import annotations

import os
import subprocess
import sys

tokens, back = os.pipe()
for end in (tokens, back):
    os.set_inheritable(end, True)
taker = subprocess.Popen(["sleep", "10000"], close_fds=False)
os.write(1, b"kill %d\n" % taker.pid)
os.environ["MAKEFLAGS"] = f"-j2 --jobserver-auth={tokens},{back}"
os.execvp("make", ["make", "-f", sys.argv[1]])
