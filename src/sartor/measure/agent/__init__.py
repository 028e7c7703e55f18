"""The agent: runs and times files for others, on the machine it is started on. ``targets/remote.py`` is its client."""
