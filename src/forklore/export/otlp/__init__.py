"""A trace as spans of OpenTelemetry: one for each process and thread, below the one that made it."""
