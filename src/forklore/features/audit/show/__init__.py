"""What is shown of an audit: tables, details, differences, a seccomp profile. Pure."""
