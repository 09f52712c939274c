"""What tasks wait for, and who holds the other end: read from /proc and asked by sock_diag(7). Nothing is stopped."""
