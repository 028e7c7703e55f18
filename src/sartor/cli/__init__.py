"""The command line: every verb is a Python function of the same arguments, imported when the verb runs."""

from sartor.cli.app import app
from sartor.cli.main import main

__all__ = ["app", "main"]
