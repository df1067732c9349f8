"""A model card: what a saved head is and is not, for people, in the form that Hugging Face shows.

    (folder / "README.md").write_text(model_card(card, manifest, store.attributes), "utf-8")

References
----------
Mitchell et al., Model Cards for Model Reporting, arXiv:1810.03993.
https://huggingface.co/docs/hub/model-cards
"""

import string
from collections import Counter
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from features.manifest import SPLITS, Manifest
from pipeline.records.natural import natural

WEIGHTS = {  # a card's label → in words
    "imagenet": "trained on ImageNet",
    "untrained": "**UNTRAINED** in part: at least one of the steps up to this layer is He-initialised",
    "random": "**UNTRAINED**: He-initialised throughout",
    "file": "from a file of the user's own",
    "none": "none, there is no network",
}


def model_card(card: Mapping[str, Any], manifest: Manifest, features: Mapping[str, Any] | None) -> str:
    """Write a head's card as Markdown below front matter in YAML; a licence is its publisher's to add.

    Parameters
    ----------
    card : mapping
        The content of `card.json`, as `Classifier.save` writes it.
    manifest : Manifest
        Of the images that the head was trained on.
    features : mapping or None
        The attributes of the layer's store; None for a head that needs no layer.

    Returns
    -------
    Text of a README.md; a class may have any name, none can end a cell or start markup.
    """
    # Markdown, not HTML: the names of classes, which are not ours, go through `escaped`
    environment = Environment(  # noqa: S701
        loader=PackageLoader("pipeline.tuning", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = escaped
    network = [features["weights_source"]["network"]] if features and card["weights"] != "none" else []
    seen = Counter((row.label, row.split) for row in manifest.rows)
    counts = [
        (name, [seen[name, split] for split in SPLITS]) for name in sorted(manifest.classes, key=natural)
    ]
    totals = [len(manifest.where(split)) for split in SPLITS]
    crossed = card["inputs"]["tuning"].get("protocol", "validation") != "validation"
    scored = f"{totals[0] + totals[1]} train and validation images, by cross-validation"
    return environment.get_template("model_card.md").render(
        card=card,
        features=features,
        weights=WEIGHTS[card["weights"]],
        tags=["transfer-learning", "frozen-features", card["head"], *network],
        splits=SPLITS,
        counts=counts,
        totals=totals,
        scored=scored if crossed else f"{totals[1]} validation images",
    )


def escaped(text: str) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return "".join(f"\\{letter}" if letter in string.punctuation else letter for letter in line)
