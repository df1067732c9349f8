"""A project folder: where everything lies, and whether what lies there fits the settings.

project = Project.open(Path("."), overrides=["dataset.seed=1"])
manifest = project.read_manifest()      # BadInput where `prepare` has to run first
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from filelock import FileLock, Timeout

from features.errors import BadInput
from features.files import read_text, remove
from features.immutable import Damaged, read_card
from features.manifest import Manifest
from features.network import Layer, Size, parse_layer
from features.weights import Weights
from pipeline.datasets import AUTO_SIZE
from pipeline.overrides import written
from pipeline.params import Settings, load

if TYPE_CHECKING:
    from features.store import FeatureStore


@dataclass(frozen=True)
class Project:
    """Paths and settings; the working directory has no effect on either."""

    root: Path
    settings: Settings

    @classmethod
    def open(cls, root: Path, overrides: Sequence[str] = ()) -> "Project":
        """Read `params.yaml` in `root` (see `pipeline.params.load`)."""
        root = root.resolve()
        return cls(root, load(root / "params.yaml", overrides))

    @property
    def artifacts(self) -> Path:
        """Everything the stages make, besides metrics and report."""
        return self.root / "artifacts"

    @property
    def manifest(self) -> Path:
        """See `features.manifest`."""
        return self.artifacts / "manifest.csv"

    @property
    def problems(self) -> Path:
        """See `pipeline.prepare`."""
        return self.artifacts / "problems.csv"

    @property
    def dataset_record(self) -> Path:
        """The parameters behind the manifest."""
        return self.artifacts / "dataset.json"

    @property
    def weights_folder(self) -> Path:
        """See `features.weights.write`."""
        return self.artifacts / "weights"

    @property
    def features(self) -> Path:
        """The published stores."""
        return self.artifacts / "features"

    @property
    def extract_record(self) -> Path:
        """What the last extraction did: see `pipeline.extraction`."""
        return self.artifacts / "extract.json"

    @property
    def report(self) -> Path:
        """The page people look at."""
        return self.root / "report" / "index.html"

    @property
    def predictions(self) -> Path:
        """One `.npz` per method: see `pipeline.predictions`."""
        return self.artifacts / "predictions"

    @property
    def plots(self) -> Path:
        """Tables that `dvc plots` draws."""
        return self.artifacts / "plots"

    @property
    def comparison(self) -> Path:
        """Everything that was compared: see `pipeline.lines.Line`."""
        return self.artifacts / "comparison.json"

    @property
    def per_class(self) -> Path:
        """Precision and recall of every class by every method."""
        return self.artifacts / "per_class.csv"

    @property
    def costs(self) -> Path:
        """Seconds and parameters per method."""
        return self.artifacts / "costs.json"

    @property
    def metrics(self) -> Path:
        """What DVC compares between revisions."""
        return self.root / "metrics.json"

    def predictions_file(self, method: str) -> Path:
        """A method's predictions of the test rows, `:` written as `-`."""
        return self.predictions / f"{method.replace(':', '-')}.npz"

    def head_folder(self, head: str) -> Path:
        """One folder per method of this head, in it `card.json`, `head.safetensors`, …."""
        return self.artifacts / "heads" / head

    def finetune_folder(self, mode: str = "") -> Path:
        """One folder per mode, `:` written as `-`."""
        return self.artifacts / "finetune" / mode.replace(":", "-")

    @property
    def dataset_root(self) -> Path:
        """The folder of images; a relative one is relative to the project."""
        return self.root / self.settings.dataset.root

    @property
    def cache_root(self) -> Path:
        """`PENULTIMATE_CACHE`, else `cache.root`, else the user's cache folder."""
        chosen = os.environ.get("PENULTIMATE_CACHE") or self.settings.cache.root
        return self.root / chosen if chosen else platformdirs.user_cache_path("penultimate")

    @property
    def image_size(self) -> Size:
        """Height and width at the network's input."""
        size = self.settings.extract.image_size
        if size == "auto":
            return AUTO_SIZE[self.settings.dataset.name]
        return size if isinstance(size, tuple) else (size, size)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers to keep, the control `pixels` last."""
        extract = self.settings.extract
        names = (*extract.layers, *(["pixels"] if extract.pixels else []))
        return tuple(dict.fromkeys(parse_layer(name, self.settings.weights.network) for name in names))

    def parameters(self) -> dict[str, Any]:
        """What features depend on besides the manifest: recorded in every store and card."""
        extract = self.settings.extract.model_dump(mode="json", exclude={"layers", "pixels"})
        return {
            "device": self.settings.device,
            "weights": self.settings.weights.model_dump(mode="json"),
            "extract": {**extract, "image_size": list(self.image_size)},
        }

    def read_manifest(self) -> Manifest:
        """Read the manifest; BadInput where it is missing or of other settings."""
        if not self.manifest.exists() or not self.dataset_record.exists():
            raise BadInput(f"there is no {self.manifest}; run `python cli.py prepare` first")
        try:
            record = read_card(self.artifacts, self.dataset_record.name)
        except Damaged as error:
            raise BadInput(f"{self.artifacts}: {error}; run `python cli.py prepare` again") from error
        _same(record["parameters"], self.settings.dataset.recorded(), self.manifest, "prepare", "dataset.")
        manifest = Manifest.read(self.manifest)
        if manifest.digest != record["manifest"]:
            raise BadInput(f"{self.manifest} was edited since it was made; run `python cli.py prepare` again")
        return manifest

    def read_weights(self) -> Weights:
        """Open the weights; BadInput where they are missing or of other settings."""
        if not (self.weights_folder / "provenance.json").exists():
            raise BadInput(
                f"there are no weights in {self.weights_folder}; run `python cli.py weights` first"
            )
        weights = Weights.open(self.weights_folder)
        asked = self.settings.weights.model_dump(mode="json")
        _same(weights.provenance["parameters"], asked, self.weights_folder, "weights", "weights.")
        return weights

    def store(self, layer: Layer, manifest: Manifest) -> "FeatureStore":
        """Open a layer's store; BadInput where it is missing or of another manifest or settings."""
        from features.store import FeatureStore  # noqa: PLC0415 - imports zarr

        store = FeatureStore.open(self.features / f"{layer.stem}.zarr")
        _same(store.attributes["parameters"], self.parameters(), store.path, "extract", "")
        if store.attributes["manifest"] != manifest.digest:
            raise BadInput(f"{store.path} is of another manifest; run `python cli.py extract` first")
        return store

    @contextlib.contextmanager
    def writing(self, what: Path) -> Iterator[Path]:
        """Be the only writer of `what`; yields a scratch folder for unfinished things.

        The folder is on the artifacts' file system and outside every stage's
        output. The lock dies with the process; what a killed writer left in the
        folder is removed by the next one. BadInput for a second writer.
        """
        name = what.relative_to(self.root).as_posix().replace("/", "-")
        scratch = self.artifacts / ".scratch" / name
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(scratch.with_suffix(".lock"), timeout=0):
                for leftover in scratch.iterdir():
                    remove(leftover)
                yield scratch
        except Timeout:
            raise BadInput(f"another process is writing {what}; wait for it, or stop it") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; BadInput where the file is damaged."""
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        raise BadInput(f"{path} is damaged ({error}); run the command that makes it again") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} is damaged: it holds no object; run the command that makes it again")
    return content


def _same(made: Mapping[str, Any], asked: Mapping[str, Any], what: Path, command: str, above: str) -> None:
    """Compare the parameters something was made with to those of now; BadInput names all that differ."""
    differ = _differing(made, asked, above)
    if not differ:
        return
    were = ", ".join(f"{name} = {json.dumps(before)}" for name, before, _ in differ)
    are = ", ".join(json.dumps(now) for *_, now in differ)
    back = " ".join(f"-S {written(name, before)}" for name, before, _ in differ)
    raise BadInput(
        f"{what} was made with {were}, now {'it is' if len(differ) == 1 else 'they are'} {are}; repeat "
        f"{back}, or write that into params.yaml; or run `python cli.py {command}` first, which makes it "
        "anew for the settings of now"
    )


def _differing(made: Mapping[str, Any], asked: Mapping[str, Any], above: str) -> list[tuple[str, Any, Any]]:
    """Parameters by their whole name, with what they were and what they are."""
    found = []
    for name in {**made, **asked}:
        before, now = made.get(name), asked.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += _differing(before, now, f"{above}{name}.")
        elif before != now:
            found.append((f"{above}{name}", before, now))
    return found
