"""Readers of other tools' logs: from lines to event records, with what a log cannot tell left unknown."""
