"""Calls about forklore's own process: signals that ask it to end, leaving in time, children it tries things on."""
