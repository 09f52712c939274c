"""What a run of the probe means: from its log to its row. Pure."""
