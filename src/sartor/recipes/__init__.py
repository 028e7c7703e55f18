"""Straight-line programs that join the parts: the main job and what surrounds it."""
