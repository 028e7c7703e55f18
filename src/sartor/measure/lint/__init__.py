"""What of a network sits badly on a target, and what measured better: sizes beside a kernel's steps, pairs to fuse."""
