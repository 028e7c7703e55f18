"""Where the time of a network goes, layer by layer, and what bounds each."""
