"""Launching programs under ptrace and turning their stops into events."""
