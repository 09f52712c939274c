"""The command ``forklore``, and ``python -m forklore``."""

import _signal  # type: ignore[import-not-found] # signal imports enum, and Ctrl-C may come before that is done
import gc
import os
import sys

_NET_ALLOCATIONS = 50_000
"""After so many new containers cycles are looked for. With Python's own 700, that is a tenth of a short run."""


def command() -> int:
    """Run the command line of this process; the exit status. ``run`` ends the process itself.

    Until there is somebody to catch it, Ctrl-C ends this process as it ends any other, and shows nothing of our own.
    """
    ours = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    if ours:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    gc.set_threshold(_NET_ALLOCATIONS)
    verb = sys.argv[1] if len(sys.argv) > 1 else "-"
    try:
        if not verb.startswith("-"):
            _import_msgspec()
        from forklore.cli.main import main
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == "forklore":
            raise
        told = f"{missing.name}, which forklore needs, is not installed for {sys.executable}"
        print(f"forklore: {told}; `pip install .` in a checkout brings it", file=sys.stderr)
        return 125 if verb == "run" else 1

    try:
        if ours:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        status = main()
        if verb == "run" and sys.getprofile() is None and sys.gettrace() is None:
            # All is written and closed, and to take the interpreter apart takes a tenth of a short run. A profiler
            # or a debugger has something to say at the end.
            sys.stderr.flush()
            os._exit(status)
    except KeyboardInterrupt:
        return 130
    return status


def _import_msgspec() -> None:
    # It takes three names from typing_extensions, where that is installed, which Python 3.11 has itself. To import
    # them from there takes as long as a quarter of what is ours.
    name = "typing_extensions"
    if name in sys.modules:
        return
    sys.modules[name] = None  # type: ignore[assignment] # so that an import of it fails
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules[name]


if __name__ == "__main__":
    sys.exit(command())
