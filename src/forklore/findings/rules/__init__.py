"""The rules, by what they are about. Each module has one table of them; :mod:`forklore.findings.table` has them all."""
