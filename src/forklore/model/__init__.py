"""From events to tasks, thread groups and edges."""
