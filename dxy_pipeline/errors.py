"""The errors a user can cause or mend. Anything else is a bug and keeps its stack trace."""


class DxyError(Exception):
    """Base of every error this project raises on purpose."""


class UserError(DxyError):
    """A mistake or a state that the user can mend: one line that says what is wrong, and one that says what to do.

    The command line prints both and exits with 2; `--debug` adds the stack trace.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
