"""``python -m sartor.cli``: the ``sartor`` command."""

from sartor.cli.main import main

main()
