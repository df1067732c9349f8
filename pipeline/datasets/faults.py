"""Files that cannot be read: for good, so that they are set aside, or because a disk fails just now."""

import errno
import os

from features.errors import BadInput
from pipeline.datasets.names import shown

# Of the file or folder itself: so it will be tomorrow
LASTING = frozenset(
    [errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO]
)


def checked(path: str | os.PathLike[str], error: OSError) -> str:
    """Why a file cannot be used, where that lasts.

    Raises
    ------
    BadInput
        Where it may pass: a data set must not shrink because a disk did not answer.
    """
    if error.errno in LASTING:
        return f"cannot be read ({error.strerror})"
    name = shown(os.fspath(path))
    if error.errno == errno.ENOENT:
        raise BadInput(f"{name} was there and is gone; leave the images alone, and run again") from error
    raise BadInput(
        f"{name} cannot be read ({error.strerror}); run again when it can, or take it out of the data set"
    ) from error
