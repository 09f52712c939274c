"""The command ``forklore``, and ``python -m forklore``."""

import _signal  # type: ignore[import-not-found] # signal imports enum, and Ctrl-C may come before that is done
import sys


def command() -> int:
    """Run the command line of this process; the exit status.

    Until there is somebody to catch it, Ctrl-C ends this process as it ends any other, and shows nothing of our own.
    """
    ours = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    if ours:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from forklore.cli.main import main

    try:
        if ours:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        return main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(command())
