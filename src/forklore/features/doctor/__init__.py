"""What this machine and user allow, and what to do about what they do not."""
