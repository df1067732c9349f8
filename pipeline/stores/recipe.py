"""What the settings say of activations, as a recipe, and the extraction that carries it out.

extraction = extraction_of(project, manifest, [layer])
"""

from collections.abc import Sequence

from features.engines.choice import Choice, choose
from features.extraction import Extraction
from features.images import Preprocessing
from features.manifest import Manifest
from features.network import Layer
from features.recipe import Recipe
from features.views import names
from pipeline.datasets.catalogue import source
from pipeline.project import Project


def recipe_of(
    project: Project,
    layers: Sequence[Layer],
    views: tuple[str, ...] | None = None,
    choice: Choice | None = None,
) -> Recipe:
    """Put together what determines the activations of these layers; by default in the settings' views.

    With a `choice` that is known, the device is not asked, and torch not imported.
    """
    settings, weights = project.settings.extract, project.read_weights()
    return Recipe(
        tuple(layers),
        views or names(settings.views),
        weights,
        Preprocessing(project.image_size, project.crop, *weights.normalisation),
        choice or choose(settings.engine, project.settings.device, settings.precision),
        settings.dtype,
        project.cache_root,
    )


def extraction_of(
    project: Project, manifest: Manifest, layers: Sequence[Layer], views: tuple[str, ...] | None = None
) -> Extraction:
    """The extraction of a manifest's images by that recipe (see `recipe_of`)."""
    images = source(project.settings.dataset.name, project.dataset_root)
    return Extraction(recipe_of(project, layers, views), manifest, images)
