"""Answers about flags, structs, calls and refusals, without a program."""
