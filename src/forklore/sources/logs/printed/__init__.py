"""What tools print: the arguments of a call, names of numbers, time stamps."""
