"""The frames of a CPython interpreter, read from its memory."""
