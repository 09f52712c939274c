"""Logs of ltrace."""
