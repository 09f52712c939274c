"""The kernel's numbers and layouts, for every arch on every host.

Imports nothing else of forklore. Files named ``_generated_*`` come from ``scripts/generate-abi``.
"""
