"""Questions to many traces, in SQL."""
