"""What the rules say of a trace, in the forms that people, editors and build servers read: one module a format."""
