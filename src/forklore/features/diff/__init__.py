"""What changed between two traces, or two audits of C libraries."""
