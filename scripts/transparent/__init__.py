"""Runs programs bare and traced and compares all that they, their parents and the system could see of it."""
