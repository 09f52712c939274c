"""Files that a traced program has a hand in, and a process that can be given up to read them."""
