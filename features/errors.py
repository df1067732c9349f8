"""The one error a user can cause: a sentence that names the offender and the remedy."""


class BadInput(ValueError):
    """Input, parameters or state of the project that the user has to change.

    The command line prints the message as it stands, without a traceback, and
    exits with code 2. Every message names the offending object, what was
    allowed and what was received, and the remedy where there is one.
    """
