"""What happened when, for programs that draw time: lanes of processes and threads, and each program that takes them."""
