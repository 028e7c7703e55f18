"""Millijoules an inference: read off the processor's own counter where it may be read, else calculated, and said so."""
