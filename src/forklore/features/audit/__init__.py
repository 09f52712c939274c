"""How a C library creates processes."""
