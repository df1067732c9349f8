"""The advice itself: evidence, scenario, ways and their prices, put together.

advice = put_together(project, manifest, stores)
advice.scenario.name, advice.method(advice.scenario.advised)
"""

from collections.abc import Mapping
from dataclasses import dataclass

from features.errors import BadInput, NoAdvice
from features.manifest import Manifest
from features.store import FeatureStore
from pipeline.advice.evidence import Evidence, Sample, evidence, sample
from pipeline.advice.hindsight import Hindsight, current_lines, judge
from pipeline.advice.prices import Rates
from pipeline.advice.scenario import Check, Scenario, scenario, similarity
from pipeline.advice.ways import Known, Way, ways
from pipeline.project import Project


@dataclass(frozen=True)
class Advice:
    """All that is advised, and what it rests on.

    Attributes
    ----------
    chance : float
        Accuracy on validation rows of always answering the most frequent class.
    per_class : (mean, least) train images of a class
    hindsight : Hindsight or str
        What the last comparison says of it, or why it says nothing.
    """

    drawn: Sample
    images: tuple[int, int]  # train, validation
    layers: list[Evidence]
    best: Evidence
    chance: float
    per_class: tuple[float, int]
    checks: list[Check]
    scenario: Scenario
    ways: list[Way]
    rates: Rates
    hindsight: Hindsight | str

    def method(self, role: str) -> str:
        """The method that plays a role: `head` → `pool5.logreg`."""
        return next(way.method for way in self.ways if way.role == role)


def put_together(project: Project, manifest: Manifest, stores: Mapping[str, FeatureStore]) -> Advice:
    """Look at every layer, find the scenario, price the ways, and ask the last comparison.

    Raises
    ------
    NoAdvice
        Where no layer has trained weights, or the train images are of one class.
    """
    widest = max(store.features.shape[-1] for store in stores.values())
    if not any(store.attributes["weights"] in ("imagenet", "file") for store in stores.values()):
        labels = ", ".join(f"{name} {store.attributes['weights']}" for name, store in stores.items())
        raise NoAdvice(
            f"no layer here has trained weights ({labels}); set weights.sources to what is trained, and "
            "name in extract.layers a layer that these weights have, such as pool5"
        )
    drawn = sample(manifest, widest, project.settings.tuning.memory_gb)
    layers = [evidence(store, drawn) for store in stores.values()]
    best = max((each for each in layers if each.trained), key=lambda each: each.best)
    pixels = next(((each.best, each.logme) for each in layers if each.weights == "none"), None)
    checks = similarity(best.best, drawn.chance, best.logme, pixels)
    train = manifest.labels[manifest.where("train")]
    counts = [int((train == number).sum()) for number in range(len(manifest.classes))]
    per_class = (len(train) / len(counts), min(counts))
    found = scenario(per_class[0], similar=all(check.passed for check in checks))
    rates = Rates.of(project, manifest)
    known = Known(drawn, layers, best, found, rates)
    return Advice(
        drawn,
        (len(train), len(manifest.where("validation"))),
        layers,
        best,
        drawn.chance,
        per_class,
        checks,
        found,
        ways(project, manifest, known),
        rates,
        _hindsight(project, manifest, found),
    )


def _hindsight(project: Project, manifest: Manifest, found: Scenario) -> Hindsight | str:
    try:
        lines, test_images = current_lines(project, manifest)
        return judge(project, lines, test_images, advised=found.advised, large=found.large)
    except BadInput as error:
        return str(error)
