"""What is seen of running tasks, made into the graph of waits. Nothing is stopped, and nothing of theirs is changed."""
