"""What running tasks share right now, without tracing them."""
