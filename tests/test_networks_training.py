"""Training: an interrupted run ends with the same bits; what is broken is said, nothing lost."""

import numpy as np
import pytest
from paper_networks import SIZE, TRUTHS, detector, plain
from small_network import net

from deformable_convnets.reference.networks import layers, optimisers, rfcn, training, two_stage
from deformable_convnets.reference.networks.rpn import Batch
from deformable_convnets.reference.networks.training import Diverged, State, load, save, train


def draw(rng):
    return rng.normal(size=(3, 2, 6, 8)).astype(np.float32), rng.integers(0, 3, 3)


def loss(network, tape, drawn):
    x, labels = drawn
    return tape.softmax_loss(network(tape, x), labels)


def new(optimiser=optimisers.Adam, dtype=np.float32):
    made = layers.deformable(net(dtype), ["second.0"])
    return State(made, optimiser(), np.random.default_rng(7))


def run(state, iterations, **options):
    settings = {"iterations": iterations, "rate": lambda i: 0.01 if i < 9 else 0.001}
    return train(state, draw, loss, **settings | options)


def bits(state):
    everything = layers.arrays(state.net) | state.optimiser.state
    return {name: np.asarray(a).tobytes() for name, a in everything.items()}


@pytest.mark.parametrize("optimiser", [optimisers.SGD, optimisers.Adam])
@pytest.mark.parametrize("stop", [1, 7, 10])
def test_a_resumed_run_is_an_uninterrupted_one(tmp_path, optimiser, stop):
    whole = run(new(optimiser), 12)
    file = tmp_path / "run.npz"
    run(new(optimiser), stop, checkpoint=file, every=5)
    resumed = run(new(optimiser), 12, checkpoint=file, every=5)
    assert resumed.losses == whole.losses
    assert bits(resumed) == bits(whole)
    assert resumed.rng.bit_generator.state == whole.rng.bit_generator.state
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.npz"]


@pytest.mark.parametrize("lost", ["rng", "state", "net", "losses"])
def test_what_a_checkpoint_lacks_is_seen(tmp_path, monkeypatch, lost):
    """Without any one of its parts the resumed run is another."""
    whole, file = run(new(), 8), tmp_path / "run.npz"
    run(new(), 4, checkpoint=file)
    fresh = new()
    kept_rng, kept_net = fresh.rng.bit_generator.state, layers.arrays(new().net)
    load(file, fresh)
    if lost == "rng":
        fresh.rng.bit_generator.state = kept_rng
    if lost == "state":
        fresh.optimiser.state.clear()
    if lost == "losses":
        fresh.losses.clear()
    if lost == "net":
        for name, a in layers.arrays(fresh.net).items():
            a[...] = kept_net[name]
    assert bits(run(fresh, 8)) != bits(whole)


def test_the_previous_checkpoint_is_kept(tmp_path, monkeypatch):
    """A write that fails half-way leaves the file of before, which still loads."""
    file, state = tmp_path / "run.npz", new()
    run(state, 3, checkpoint=file)
    before = file.read_bytes()

    def half(target, **kept):
        target.write(before[: len(before) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(OSError, match="no space left"):
        run(state, 6, checkpoint=file, every=5)
    assert file.read_bytes() == before
    monkeypatch.undo()
    again = new()
    load(file, again)
    assert again.iteration == 3


def test_a_file_that_is_no_checkpoint(tmp_path):
    file, state = tmp_path / "run.npz", new()
    save(file, state)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not at all", whole[:100]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"run.npz is no checkpoint, or not a whole one") as e:
            load(file, state)
        assert "pickle" not in str(e.value)


def test_a_checkpoint_of_another_network(tmp_path):
    file = tmp_path / "run.npz"
    save(file, State(net(np.float32), optimisers.Adam(), np.random.default_rng(0)))
    with pytest.raises(ValueError, match=r"another network: second.0.branch.bias is missing; sec"):
        load(file, new())
    save(file, new())
    with pytest.raises(ValueError, match="was written with Adam, expected the same"):
        load(file, new(optimisers.SGD))
    state, before = new(), bits(new())
    state.rng = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(ValueError, match="written with PCG64, expected the same, not MT19937"):
        load(file, state)
    assert bits(state) == before  # nothing was overwritten
    with pytest.raises(ValueError, match="every is 0, expected 1 or more"):
        run(new(), 2, every=0)
    with pytest.raises(ValueError, match="in a folder that is not there"):
        run(new(), 2, checkpoint=tmp_path / "nowhere" / "run.npz")
    other = new()
    other.net.head.bias = np.zeros(5, np.float32)
    with pytest.raises(ValueError, match=r"head.bias has shape \(3,\), expected \(5,\)"):
        load(file, other)


def test_no_iterations_and_no_number():
    assert run(new(), 0).iteration == 0
    with pytest.raises(ValueError, match="iterations is -1, expected 0 or more"):
        run(new(), -1)
    for wrong, said in ((lambda net, tape, given: np.ones(3), r"\(3,\)"),
                        (lambda net, tape, given: 1.5, "float")):  # fmt: skip
        with pytest.raises(ValueError, match=f"the loss is of shape or type {said}, expected a nu"):
            train(new(), draw, wrong, iterations=1, rate=lambda i: 0.01)


def test_a_loss_that_is_not_finite_is_placed(tmp_path):
    """At which iteration, and in which layer first."""
    state, file = new(), tmp_path / "run.npz"

    def spoilt(rng):
        x, labels = draw(rng)
        if state.iteration == 2:
            state.net.second[0].weight *= np.float32(3e38)
        return x, labels

    with (
        np.errstate(all="ignore"),
        pytest.raises(
            Diverged,
            match=r"the loss is nan at iteration 2; the first result that is not finite is that of "
            r"deform_conv2d with second.0.weight, second.0.bias",
        ),
    ):
        train(state, spoilt, loss, iterations=4, rate=lambda i: 0.01, checkpoint=file, every=1)
    again = new()
    load(file, again)
    assert again.iteration == 2
    assert np.isfinite(again.net.second[0].weight).all()
    again.net.norm.scale[1] = np.nan
    with pytest.raises(Diverged, match=r"at iteration 2; norm.scale is not finite"):
        run(again, 4)


def test_a_loss_that_is_refused_is_placed():
    """Deltas of anchors that are not finite are no loss; other errors stay what they are."""
    state = new(optimisers.SGD)
    state.net = detector(rfcn, True, plain)
    images = np.random.default_rng(3).normal(size=(1, 3, *SIZE))

    def run_with(truths):
        train(state, lambda rng: Batch(images, truths), two_stage.loss, iterations=1,
              rate=lambda i: 0.01)  # fmt: skip

    with pytest.raises(ValueError, match="there are truths of 2 images, expected 1"):
        run_with(TRUTHS * 2)
    state.net.rpn.box.weight[...] = 1.7e308
    with (
        np.errstate(all="ignore"),
        pytest.raises(
            Diverged,
            match=r"there is no loss at iteration 0: deltas\[\d+\] is .*; the first result that is"
            r" not finite is that of conv2d with rpn\.box\.weight",
        ),
    ):
        run_with(TRUTHS)


def test_progress_and_rates():
    seen, rates = [], []
    state = State(net(np.float32), optimisers.SGD(), np.random.default_rng(0))
    train(state, draw, loss, iterations=3, rate=lambda i: rates.append(i) or 0.01,
          progress=lambda s: seen.append((s.iteration, s.losses[-1])))  # fmt: skip
    assert rates == [0, 1, 2]
    assert [i for i, _ in seen] == [1, 2, 3]
    assert [value for _, value in seen] == state.losses
    assert training.train(state, draw, loss, iterations=3, rate=lambda i: 1 / 0) is state
    with pytest.raises(TypeError, match=r"rate is 0\.001, expected a function of the iteration"):
        train(state, draw, loss, iterations=4, rate=1e-3)
