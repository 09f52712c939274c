"""The plugin for pytest: what each test spawned, left behind and leaked; limits on it; commands traced by a fixture."""
