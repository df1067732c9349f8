"""The ways to train a pretrained network, as one axis: where it is cut.

    mode = parse_mode("freeze:conv4_3", "vgg16")
    mode.cut        # "conv4_3": its ReLU included, the last frozen step

Left of the cut the network is frozen, right of it trained. `full` is cut at the image,
`dense` at the last pooling; `scratch` is `full` from random weights.
"""

import difflib
from dataclasses import dataclass

from features.errors import BadInput
from features.network import Layer, parse_layer, steps
from features.weights import Weights

FREEZE = "freeze:"
IMAGE = "pixels"  # the cut of what is trained as a whole
LAST_POOLING, LAST_HIDDEN = "pool5", "fc7"
CUTS = {"full": IMAGE, "dense": LAST_POOLING, "scratch": IMAGE}


@dataclass(frozen=True)
class Mode:
    """One way.

    Attributes
    ----------
    name : str
        As users write it.
    cut : str
        The last frozen step, `pixels` for none.
    """

    name: str
    cut: str

    @property
    def is_scratch(self) -> bool:
        """Whether training starts from random weights."""
        return self.name == "scratch"

    @property
    def on_dense(self) -> bool:
        """Whether there have to be hidden dense layers below the new output layer."""
        return self.name == "dense" or self.cut in ("fc6", LAST_HIDDEN)


def parse_mode(name: str, network: str) -> Mode:
    """Read a mode's name.

    Raises
    ------
    BadInput
        For one that there is not; offers the nearest.
    """
    if name in CUTS:
        return Mode(name, CUTS[name])
    cuts = [step.name for step in steps(network)[:-1]]
    known = [*CUTS, *(FREEZE + cut for cut in cuts)]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise BadInput(
            f"there is no mode {name!r} with {network}; did you mean {near!r}? (modes: {', '.join(CUTS)}, "
            f"and freeze:<layer> with one of {', '.join(cuts)})"
        )
    return Mode(name, name.removeprefix(FREEZE))


def top_layer(asked: str, mode: Mode, weights: Weights) -> Layer:
    """Resolve `finetune.top`: the layer that the new output layer stands on.

    Parameters
    ----------
    asked : {"auto", "pool5", "fc7"}
        `auto` is fc7 where that is trained; 119 million untrained parameters would handicap a
        baseline. `dense` retrains the dense layers, so there it is fc7 at all events.

    Raises
    ------
    BadInput
        Where the cut is above that layer, or freezes what the weights do not hold.
    """
    network = weights.network
    hidden = parse_layer(LAST_HIDDEN, network)
    if asked == "auto":
        trained = weights.label(hidden) in ("imagenet", "file")
        asked = LAST_HIDDEN if trained or mode.on_dense else LAST_POOLING
    top = hidden if mode.name == "dense" else parse_layer(asked, network)
    if mode.on_dense and top.step == LAST_POOLING:
        raise BadInput(
            f"finetune.modes: {mode.name} freezes {mode.cut}, but finetune.top puts the new output layer on "
            f"{LAST_POOLING}; set finetune.top to {LAST_HIDDEN}"
        )
    if weights.label(parse_layer(mode.cut, network)) == "untrained":
        raise BadInput(
            f"finetune.modes: {mode.name} freezes {mode.cut}, which the weights do not hold: they end at "
            f"{LAST_POOLING}; cut there or below, or give weights of all layers"
        )
    return top


def cuts_below(top: Layer) -> tuple[str, ...]:
    """Every mode that trains a tail below this layer's output layer, in order: all of it first.

    A pooling has no parameters: cut before it or behind it, the same is trained.
    """
    return ("full", *(FREEZE + step.name for step in top.steps if step.key))
