"""Files and folders that systems and programs put beside images: never a class, never an image of one.

Their thumbnails are copies of the images, smaller: in another split than their image they would be known.
"""

# In lower case; by who makes them
FOLDERS = frozenset(
    [
        "lost+found", ".snapshot", "~snapshot", ".zfs", ".trash", ".thumbnails", ".thumbs", ".thumb",
        ".cache", ".xvpics", ".sh_thumbnails",                                  # Linux, and file servers
        ".spotlight-v100", ".fseventsd", ".trashes", ".temporaryitems", ".documentrevisions-v100",
        ".appledouble", ".appledb", ".appledesktop", "__macosx", "network trash folder", "temporary items",
        "system volume information", "$recycle.bin", "recycler", "recycled", "found.000",       # Windows
        "@eadir", "#recycle", "#snapshot", "@tmp", "@sharesnap",                           # Synology
        "@recycle", ".@__thumb", "@__thumb", "@recently-snapshot", ".@upload_cache",           # QNAP
        ".picasaoriginals", ".comments", ".dthumb", "_vti_cnf", "_vti_pvt", ".dropbox.cache", ".stfolder",
        ".stversions", ".sync", ".git", ".svn", ".hg", ".dvc", ".ipynb_checkpoints", "__pycache__",
        ".idea", ".vscode", ".vs", ".venv", ".tox", ".mypy_cache", ".pytest_cache", ".ruff_cache",
    ]
)  # fmt: skip
FILES = frozenset(
    [
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "iconcache.db",
        ".ds_store", ".localized", ".apdisk", "icon\r", ".volumeicon.icns", ".directory", ".nomedia",
        ".picasa.ini", "picasa.ini", ".bridgesort", ".bridgelabelsandratings", ".gitkeep", ".gitignore",
        ".gitattributes", ".keep", ".dvcignore", ".dropbox", ".dropbox.attr", "synoindex_media_info",
    ]
)  # fmt: skip
# Whatever follows: AppleDouble, a trash of one user, files that are open on NFS or under FUSE, Office's locks
BEGINNINGS = ("._", ".trash-", ".nfs0", ".fuse_hidden", "~$", ".goutputstream-", ".syncthing.")
# Made for a web page, say; a folder of this name may be a class, but not within a class
THUMBNAILS = frozenset(["thumbnails", "thumbs", "_thumbs", "_thumbnails", "thumbnail", ".thumbnail"])


def is_system(name: str, *, folder: bool) -> bool:
    """Whether a file or folder of this name belongs to a system or program, by its name alone."""
    lower = name.lower()
    return lower in (FOLDERS if folder else FILES) or lower.startswith(BEGINNINGS)
