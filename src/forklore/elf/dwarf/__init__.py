"""DWARF: source lines, variables and their types."""
