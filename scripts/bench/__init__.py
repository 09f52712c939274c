"""The benchmark: what tracing costs, by forklore and by other tools, side by side. ``run`` is its command."""
