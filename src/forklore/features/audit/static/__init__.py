"""What a file says of itself without being run: headers, symbols, notes, system-call instructions."""
