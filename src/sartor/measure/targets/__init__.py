"""What runs exported files and times them: one target a file, each named in ``named.TARGETS``."""
