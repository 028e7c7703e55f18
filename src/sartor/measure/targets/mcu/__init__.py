"""Microcontrollers: what is on the chip, how many cycles its core takes, what fits."""
