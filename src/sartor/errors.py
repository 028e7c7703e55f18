"""What can go wrong, by exit code. The command line prints one line and exits; Python callers catch the class.

Exit codes: 0 done, 2 wrong usage or input, 3 no network met the budget, 130 stopped.
"""


class SartorError(Exception):
    """The one base of everything Sartor raises on purpose. The message is one line and names the fix."""

    exit_code = 2


class InputError(SartorError):
    """Arguments, files or data that cannot be used as they are."""


class WriteError(InputError):
    """A file that cannot be written: a full disk, no permission. Nothing is lost; the same command goes on."""


class Diverged(SartorError):
    """A training whose loss is not finite however small the learning rate. The message names what to check."""


class BudgetError(SartorError):
    """Nothing met the budget. The message names the nearest miss."""

    exit_code = 3


class Stopped(SartorError):
    """Stopped by the user (Ctrl-C, SIGTERM). The message says how to resume."""

    exit_code = 130
