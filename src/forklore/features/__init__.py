"""Whole features: what each observes, what it concludes and what it prints."""
