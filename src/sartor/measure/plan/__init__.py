"""Where every activation of a graph lives, and in which order its nodes run so that the least memory is needed."""
