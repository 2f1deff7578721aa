"""Errors that a user can act on.

Every deliberate refusal of mmsharp is a :class:`MmsharpError`. Its message names the thing, the value, what was
accepted and what to do; the command-line tools print it as one line and exit with status 2, without a traceback.
"""


class MmsharpError(ValueError):
    """Base of all deliberate refusals; a ``ValueError``, so that library users need not import it."""
