# Two jobs: the first goes on and on, the second needs a token.
all: first second
first:
	@echo ask $$PPID 0; exec sleep 10000
second:
	@echo never
