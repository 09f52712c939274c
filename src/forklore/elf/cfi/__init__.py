"""Call frames: from a task's registers to those of its callers."""
