"""ELF files of traced programs: modules, symbols, unwinding."""
