"""Call stacks of creations and what new threads run, read from held tasks."""
