"""The tree of tasks in a terminal."""
