"""The errors of this project, all of them.

    ValueError
    ├── BadInput            what a user can mend: one sentence, exit code 2, no traceback
    │   ├── Diverged        a training that has to begin with other settings
    │   └── NoAdvice        a question that these images or weights leave open
    ├── Damaged             a folder of ours that is not what was written: made anew, or said as BadInput
    └── Unreadable          an image file that cannot be used: set aside, with the reason
    Exception
    └── Unavailable         a source that cannot be reached: the next one is asked, or said as BadInput

Whatever else comes from the operating system (OSError) names its file, and becomes one sentence in `cli.py`.
"""


class BadInput(ValueError):
    """Input, parameters or state of the project that the user has to change.

    The command line prints the message as it stands, without a traceback, and
    exits with code 2. Every message names the offending object, what was
    allowed and what was received, and the remedy where there is one.
    """


class Diverged(BadInput):
    """The loss of a training, or its gradient, is no longer a finite number."""


class NoAdvice(BadInput):
    """Nothing can be said of these images with these weights; the sentence says why."""


class Damaged(ValueError):
    """A folder that is not what was written; the message says in which respect."""


class Unreadable(ValueError):
    """An image file that cannot be used; the message says why, without the file's name."""


class Unavailable(Exception):
    """A source that cannot be reached or does not have what was asked; the message says why."""
