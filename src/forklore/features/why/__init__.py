"""Why programs do not end: what each thread waits for, who could end the wait, and so on to the root of the chain."""
