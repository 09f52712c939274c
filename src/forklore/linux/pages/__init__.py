"""Pages of other tasks: what is common, copied, changed."""
