"""The tail trainer: against torchvision, from the cache, and cut off at random steps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from features.errors import BadInput, Diverged
from features.network import parse_layer
from features.sources import TORCHVISION, initialise
from pipeline.finetuning import checkpoint, trainer
from pipeline.finetuning.checkpoint import Checkpoint
from pipeline.finetuning.feed import Activations, Feed, Pixels, Positions
from pipeline.finetuning.network import CutNetwork
from pipeline.finetuning.plan import Hyperparameters, Plan, bytes_of, prefix_of
from pipeline.finetuning.trainer import Task, scores, train
from pipeline.project import Project
from pipeline.stores.recipe import extraction_of
from tests.pipeline.conftest import with_settings

CPU = torch.device("cpu")


def torchvision_step(task: Task, project: Project, frozen: int) -> nn.Module:
    """One AdamW step of torchvision's own network, its first modules frozen, on the same images."""
    model = torchvision.models.vgg11(num_classes=3)
    weights = project.read_weights()
    features = {
        name.removeprefix("features."): torch.from_numpy(tensor.copy())
        for name, tensor in weights.state(parse_layer("pool5", "vgg11")).items()
    }
    model.features.load_state_dict(features)
    start = task.start()
    output = nn.Linear(start.output.in_features, 3)
    output.load_state_dict(start.output.state_dict())
    network = nn.Sequential(model.features, nn.Flatten(), output)
    model.features[:frozen].requires_grad_(False)
    trained = [p for p in model.features.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        [{"params": trained}, {"params": output.parameters()}], lr=0.01, weight_decay=0.1
    )
    mean, std = weights.normalisation
    plan = extraction_of(project, project.read_manifest(), [parse_layer("pool5", "vgg11")], ("none",))
    pixels = np.stack([
        plan.recipe.preprocessing.pixels(plan.source.image(row.path, row.sha256))
        for row in (plan.manifest.rows[number] for number in task.rows)
    ])  # fmt: skip
    x = (
        torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - torch.tensor(mean)[:, None, None]
    ) / torch.tensor(std)[:, None, None]
    loss = nn.functional.cross_entropy(network(x), torch.from_numpy(task.labels[task.rows]).long())
    loss.backward()
    nn.utils.clip_grad_norm_([*trained, *output.parameters()], trainer.MAX_NORM)
    optimiser.step()
    return network


@pytest.mark.parametrize("cache_gb", [20, 0])
def test_a_step_is_torchvisions_with_the_same_layers_frozen(
    task: Callable[..., Task], prepared: Project, cache_gb: int
) -> None:
    one = task("freeze:conv4_1", cache_gb=cache_gb, batch_size=12, warmup=0, top="pool5")
    assert isinstance(one.feed, Activations) == (cache_gb > 0)
    train(one, 1)
    state = stands(one)
    # conv4_1 is torchvision's features[11], its ReLU [12]
    want = torchvision_step(one, prepared, frozen=13)
    names = {"conv4_2": "0.13", "conv5_1": "0.16", "conv5_2": "0.18"}
    state_dict = want.state_dict()
    got = {
        f"{there}.{kind}": state.model[f"network.{name}.{kind}"]
        for name, there in names.items()
        for kind in ("weight", "bias")
    }
    got |= {f"2.{kind}": state.model[f"output.{kind}"] for kind in ("weight", "bias")}
    start = {name: tensor.clone() for name, tensor in one.start().state_dict().items()}
    for name, tensor in got.items():
        torch.testing.assert_close(tensor, state_dict[name], rtol=1e-3, atol=2e-4)
    moved = (state.model["network.conv4_2.weight"] - start["network.conv4_2.weight"]).abs().median()
    assert moved > 5e-3  # the first step of AdamW is about the learning rate
    assert not any(name.startswith("network.conv4_1") for name in state.model)


class CutOff(Feed):
    """A feed that fails after so many train batches."""

    def __init__(self, feed: Feed, after: int) -> None:
        self.feed, self.left, self.views = feed, after, feed.views

    def batches(self, positions: Sequence[Positions]) -> Iterator[Tensor]:
        for batch in self.feed.batches(positions):
            if len(batch) == 4:  # validation's are of another size
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
            yield batch

    def logits(self, model: CutNetwork, batch: Tensor) -> Tensor:
        return self.feed.logits(model, batch)

    def augmented(self, batch: Tensor) -> Tensor:
        return self.feed.augmented(batch)


@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        ("full", {"augment": "crop-flip"}),
        ("freeze:conv5_1", {"augment": "views", "views": "flip"}),
        pytest.param("freeze:fc6", {}, marks=pytest.mark.slow),  # dropout; 17 million parameters
        pytest.param("scratch", {"layer_decay": 0.8}, marks=pytest.mark.slow),
    ],
)
def test_cut_off_at_random_steps_it_ends_with_the_same_bits(
    task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch, mode: str, changes: dict[str, object]
) -> None:
    one = replace(task(mode, **changes), epochs=2)
    train(one, 2)
    undisturbed = stands(one)
    assert len({len(batch) for batch in one.batches(0)}) == 1  # as `CutOff` expects
    rng = np.random.default_rng(0)
    for number, after in enumerate(rng.choice(6, size=2, replace=False).tolist()):
        monkeypatch.setattr(
            trainer, "CHECKPOINT_SECONDS", 1e9 if number % 2 else 0
        )  # each epoch, or each step
        file = one.file.with_name(f"cut off after {after}.safetensors")
        with pytest.raises(KeyboardInterrupt):
            train(replace(one, file=file, feed=CutOff(one.feed, after)), 2)
        train(replace(one, file=file), 2)
        assert_same(stands(replace(one, file=file)), undisturbed)


def stands(task: Task) -> Checkpoint:
    """How a run stands by its file."""
    state = checkpoint.read(task.file, task.facts)
    assert state is not None
    return state


def assert_same(state: Checkpoint, other: Checkpoint) -> None:
    for part in ("model", "best", "optimiser"):
        one, two = getattr(state, part), getattr(other, part)
        assert one
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert [(e.epoch, e.rank) for e in state.history] == [(e.epoch, e.rank) for e in other.history]
    np.testing.assert_array_equal(
        [e.train_loss for e in state.history], [e.train_loss for e in other.history]
    )


def test_going_on_is_the_same_as_going_through(task: Callable[..., Task]) -> None:
    one = task("freeze:conv5_1")
    other = replace(one, file=one.file.with_name("at once.safetensors"))
    for epoch in (1, 2, 3):
        assert train(one, epoch).epochs == epoch
    train(other, 3)
    assert_same(stands(one), stands(other))


def test_checkpoints_of_other_runs_and_damaged_ones(
    task: Callable[..., Task], capsys: pytest.CaptureFixture[str]
) -> None:
    one = task("freeze:conv5_1")
    train(one, 1)
    first = stands(one)
    with pytest.raises(
        BadInput, match=r"checkpoint\.safetensors is the checkpoint of another run; delete it"
    ):
        train(replace(one, facts=one.facts | {"run": "run-7"}), 1)
    whole = one.file.read_bytes()
    one.file.unlink()  # `first` is mapped from it
    one.file.write_bytes(whole[:1000])
    train(one, 1)
    assert_same(stands(one), first)
    assert "is damaged; training starts anew" in capsys.readouterr().out


def test_divergence_keeps_the_last_good_checkpoint(task: Callable[..., Task]) -> None:
    one = task("freeze:conv5_1", warmup=0)
    train(one, 1)
    good = stands(one)

    class Broken(CutOff):
        def batches(self, positions: Sequence[Positions]) -> Iterator[Tensor]:
            for batch in self.feed.batches(positions):
                yield batch * torch.nan

    with pytest.raises(Diverged, match=r"diverged at learning rate 0\.01.*lower finetune.learning_rate"):
        train(replace(one, feed=Broken(one.feed, 0)), 2)
    assert_same(stands(one), good)


def test_every_image_is_seen_once_an_epoch_by_one_of_its_views(task: Callable[..., Task]) -> None:
    one = task("freeze:conv5_1", augment="views", views="five-crop", images=10)
    seen = [np.concatenate(one.batches(epoch)) for epoch in range(6)]
    for positions in seen:
        assert sorted(positions // 5) == one.rows.tolist()
    assert {int(view) for positions in seen for view in positions % 5} == {0, 1, 2, 3, 4}
    assert not np.array_equal(seen[0], seen[1])
    model = one.start()
    per_view = scores(model, one.feed, one.rows, CPU)
    assert per_view.shape == (10, 5, 3)
    [batch] = one.feed.batches([one.rows * 5 + 2])
    with torch.inference_mode():
        np.testing.assert_allclose(per_view[:, 2], model.eval().tail(batch).numpy(), rtol=1e-4, atol=1e-5)


def test_frozen_batch_norm_stays_as_it_is() -> None:
    top = parse_layer("pool5", "vgg11_bn")
    model = CutNetwork(top, "conv3_1", initialise("vgg11_bn", 0), TORCHVISION, 3, top.width((32, 32))).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8))
    model(pixels).sum().backward()
    moved = {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    assert moved
    assert {name.split(".")[1] for name in moved} == {
        "conv3_2_norm",
        "conv4_1_norm",
        "conv4_2_norm",
        "conv5_1_norm",
        "conv5_2_norm",
    }
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert {name.split(".")[1] for name in without} == {
        "conv1_1",
        "conv1_1_norm",
        "conv2_1",
        "conv2_1_norm",
        "conv3_1",
        "conv3_1_norm",
    }


def test_layers_learn_at_declared_rates(task: Callable[..., Task]) -> None:
    model = task("freeze:conv4_1").start()
    groups = model.groups(1.0, pretrained={"conv4_2", "conv5_1"}, factor=0.1, decay=0.5)
    assert [group["lr"] for group in groups] == pytest.approx([0.1 * 0.125, 0.1 * 0.25, 0.5, 1.0])
    assert sum(p.numel() for group in groups for p in group["params"]) == model.trainable_parameters()


def test_learning_rate_rises_and_falls_to_zero(task: Callable[..., Task]) -> None:
    one = task("freeze:conv5_1", warmup=1 / 3)  # 9 steps, 3 of them rising
    factors = [one.factor(step) for step in range(9)]
    assert factors[:3] == pytest.approx([(s + 1) / 3 * 0.5 * (1 + np.cos(np.pi * s / 9)) for s in range(3)])
    assert factors[3:] == sorted(factors[3:], reverse=True)
    assert one.factor(9) == pytest.approx(0, abs=1e-12)


def test_patience_ends_a_run_that_no_longer_improves(task: Callable[..., Task]) -> None:
    unlearns = task("freeze:conv5_2", Hyperparameters(0.05, 0.0), patience=1, warmup=0)
    state = train(unlearns, 3)
    assert (state.epochs, state.chosen.epoch) == (1, 0)
    assert train(unlearns, 3).epochs == 1  # and it stays ended


def test_label_smoothing_is_torchs(task: Callable[..., Task]) -> None:
    one = task("freeze:conv5_2", batch_size=12, label_smoothing=0.3)
    first = train(one, 1).history[1].train_loss  # of a single step, so of the start
    logits = torch.from_numpy(scores(one.start(), one.feed, one.rows, CPU))
    want = nn.functional.cross_entropy(
        logits, torch.from_numpy(one.labels[one.rows]).long(), label_smoothing=0.3
    )
    assert first == pytest.approx(want.item(), rel=1e-5)


def test_augmentation_flips_and_crops_each_image_by_itself(task: Callable[..., Task]) -> None:
    feed = task("full", augment="flip").feed
    [batch] = feed.batches([np.arange(40)])
    torch.manual_seed(0)
    flipped = feed.augmented(batch)
    pairs = list(zip(flipped, batch, strict=True))
    mirrored = [torch.equal(new, old.flip(1)) for new, old in pairs]
    assert all(one or torch.equal(new, old) for one, (new, old) in zip(mirrored, pairs, strict=True))
    assert 8 < sum(mirrored) < 32
    crops = task("freeze:conv5_1", augment="crop")
    assert isinstance(crops.feed, Pixels)  # augmented images are new: nothing to cache
    cropped = crops.feed.augmented(batch)
    assert cropped.shape == batch.shape
    assert cropped.dtype == torch.uint8
    assert not any(torch.equal(new, old) for new, old in zip(cropped, batch, strict=True))


@pytest.mark.parametrize("score", ["macro-f1", "log-loss"])
def test_an_epoch_is_scored_as_a_head_is(task: Callable[..., Task], score: str) -> None:
    one = replace(task("freeze:conv4_1", batch_size=4, top="pool5", images=36), score=score)
    history = train(one, 2).history
    for epoch in history:
        # After calibration nothing is much worse than chance, whatever the logits' size
        assert epoch.validation_log_loss < np.log(3) + 0.1
        if score == "log-loss":
            assert epoch.validation_score == pytest.approx(-epoch.validation_log_loss)
    chosen = max(epoch.validation_score for epoch in history)
    assert train(one, 2).chosen.validation_score == pytest.approx(chosen)


def test_why_a_prefix_is_cached_or_not(prepared: Project) -> None:
    manifest = prepared.read_manifest()
    mode = Plan(prepared, manifest, "freeze:conv4_1").mode
    layer = parse_layer("conv4_1", "vgg11")
    # 512 channels of 4 × 4 at 32 px, half precision
    assert bytes_of(prepared, manifest, layer) == len(manifest) * 512 * 4 * 4 * 2
    assert prefix_of(prepared, manifest, mode).cached
    small = prefix_of(with_settings(prepared, cache_gb=1e-4), manifest, mode)
    assert not small.cached
    assert "finetune.cache_gb is 0.0001" in small.why
    assert "nothing is frozen" in prefix_of(prepared, manifest, Plan(prepared, manifest, "full").mode).why
