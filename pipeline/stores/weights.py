"""The stage `weights`: the network's tensors, from the first source that has them.

python cli.py weights
"""

from features.errors import BadInput
from features.files import sha256_file
from pipeline.project import Project


def obtain_weights(project: Project) -> None:
    """Make `artifacts/weights` current; says which source served and what is not trained."""
    settings = project.settings.weights
    file = project.root / settings.file if settings.file else None
    asked = settings.model_dump(mode="json")
    with project.writing(project.weights_folder) as scratch:
        if _weights_are_current(project):
            print(f"weights: {project.weights_folder} current, nothing to do")
            return
        from features import sources  # noqa: PLC0415 - imports torch

        request = sources.Request(settings.network, settings.sources, file, settings.sha256, settings.seed)
        obtained = sources.obtain(request, project.cache_root)
        sources.write(obtained, project.weights_folder, scratch, asked)
    untrained = [name for name, origin in obtained.origins.items() if origin == "untrained"]
    note = f"; UNTRAINED (He-initialised): {', '.join(untrained)}" if untrained else ""
    print(f"weights: {settings.network} from {obtained.source['source']}{note}")


def _weights_are_current(project: Project) -> bool:
    try:
        current = project.read_weights()
    except BadInput:
        return False
    if not current.file.exists():
        return False
    if current.provenance["source"] != "file":
        return True
    file = project.root / str(project.settings.weights.file)
    return file.exists() and sha256_file(file) == current.provenance["sha256"]
