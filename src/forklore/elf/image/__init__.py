"""ELF files and their symbols."""
