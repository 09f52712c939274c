"""The tests in an emulated machine: a Debian image of another architecture, booted by qemu. Standard library only."""
