"""The event records, their JSON lines form, its schema, and readers of other tools' logs."""
