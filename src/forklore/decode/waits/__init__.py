"""What a call waits for, and what a lock in memory says of its owner. Pure: names, words and bytes in."""
