"""What people and programs read: trees, logs, JSON. Made from the model alone."""
