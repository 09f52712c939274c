"""Pieces of text that several views use."""
