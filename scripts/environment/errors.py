"""The one error of set-up."""


class SetUpError(RuntimeError):
    """Set-up cannot go on; the message is one line that names the step, the reason and what to do."""
