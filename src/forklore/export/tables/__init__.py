"""A trace as flat tables, for databases: one row a thing, the same columns whatever the trace (docs/tables.md)."""
