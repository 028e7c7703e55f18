"""The parts of a file that a device runs one by one, how long each takes, and what a whole network takes by them."""
