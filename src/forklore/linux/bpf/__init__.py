"""bpf(2) by ctypes: objects that clang made are loaded, attached and read from, without any library."""
