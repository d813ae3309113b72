"""What notebook 5 learns with: pictures, a small network, and Adam.

All gradients are the library's `*_backward`; there is no automatic differentiation. The network:

    x -> conv2d, stride 2 -> ReLU -> h -> the layer of Figure 2 -> ReLU -> conv2d 1x1 -> scores
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from deformable_convnets.reference import (
    R,
    conv2d,
    conv2d_backward,
    deform_conv2d,
    deform_conv2d_backward,
    effective_dilation,
    sampling_points,
)

C, CLASSES, MAP = 8, 3, 16


def everywhere(move, size):
    """Nine offsets (9, 2), or 18 numbers, as a field 1 18 Ho Wo: the same at every pixel."""
    return np.broadcast_to(np.reshape(move, (1, 18, 1, 1)), (1, 18, *size)).copy()


def smooth(rng, shape, width):
    """Noise, blurred over `width` pixels along the last two axes, of variance 1."""
    noise = gaussian_filter(rng.normal(size=shape), (0,) * (len(shape) - 2) + (width, width))
    return noise / noise.std()


def scenes(rng, n):
    """n pictures 1 32 32 of a disk in noise, and the class of each pixel of a 16x16 map: 0 for
    the background, 1 on a disk of radius 2 to 3.5 pixels, 2 on one of 5 to 8."""
    size, kind = 2 * MAP, rng.integers(1, 3, n)
    radius = rng.uniform(*np.array([(2, 3.5), (5, 8)])[kind - 1].T)
    centre = rng.uniform(radius + 1, size - radius - 2, (2, n))
    y, x = np.indices((size, size))[:, None] - centre[..., None, None]
    inside = np.hypot(y, x) <= radius[:, None, None]
    pictures = inside + 0.3 * rng.normal(size=inside.shape)
    return pictures[:, None].astype(np.float32), (inside * kind[:, None, None])[:, ::2, ::2]


class Adam:
    """Kingma and Ba 2015: steps of about `rate`, whatever the size of the gradient."""

    def __init__(self):
        self.steps, self.mean, self.square = 0, {}, {}

    def step(self, parameters, grads, rates):
        """Move the arrays of `parameters`, in place, against their gradients."""
        self.steps += 1
        for name, grad in grads.items():
            mean = self.mean[name] = 0.9 * self.mean.get(name, 0) + 0.1 * grad
            square = self.square[name] = 0.999 * self.square.get(name, 0) + 0.001 * grad**2
            mean, square = mean / (1 - 0.9**self.steps), square / (1 - 0.999**self.steps)
            parameters[name] -= rates[name] * mean / (np.sqrt(square) + 1e-8)


def learn_shared(x, target, weight, steps=100, rate=0.1, dilation=1):
    """Nine offsets for all pixels that bring y near the target: their path, and the losses."""
    offset, adam, path, losses = np.zeros((9, 2)), Adam(), [], []
    for _ in range(steps):
        layer = x, everywhere(offset, target.shape[2:]), weight
        error = deform_conv2d(*layer, dilation=dilation) - target
        path.append(offset.copy())
        losses.append((error**2).mean())
        grads = deform_conv2d_backward(2 * error / error.size, *layer, dilation=dilation)
        grad = grads.offset.sum(axis=(0, 2, 3)).reshape(9, 2)
        adam.step({"offset": offset}, {"offset": grad}, {"offset": rate})
    return np.array([*path, offset]), np.array(losses)


def network(rng, dilation=1):
    """New parameters: He's initialisation, and an offset branch of zero weights (section 2.3).

    Its bias is (dilation - 1) p_n: atrous convolution, so zero as well by default."""
    sizes = {"stem": (C, 1, 3, 3), "layer": (C, C, 3, 3), "head": (CLASSES, C, 1, 1)}
    net = {k: np.sqrt(2 / np.prod(s[1:])) * rng.normal(size=s) for k, s in sizes.items()}
    net["offset"] = np.zeros((18, C, 3, 3))
    net |= {f"{name}_bias": np.zeros(len(weight)) for name, weight in net.items()}
    net["offset_bias"] = (dilation - 1) * R(3).ravel()
    return {name: a.astype(np.float32) for name, a in net.items()}


def forward(net, x, limit=np.inf):
    """The maps of the network by name; offsets are clipped to +-limit pixels."""
    at = {"x": x, "stem": conv2d(x, net["stem"], net["stem_bias"], stride=2, padding=1)}
    h = at["h"] = np.maximum(at["stem"], 0)
    at["free"] = conv2d(h, net["offset"], net["offset_bias"], padding=1)
    at["offset"] = np.clip(at["free"], -limit, limit)
    at["layer"] = deform_conv2d(h, at["offset"], net["layer"], net["layer_bias"], padding=1)
    at["a"] = np.maximum(at["layer"], 0)
    at["scores"] = conv2d(at["a"], net["head"], net["head_bias"])
    return at


def cross_entropy(scores, label):
    """The mean over the pixels of -log softmax(scores)[label], and its gradient."""
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    q, hot = e / e.sum(axis=1, keepdims=True), np.moveaxis(np.eye(CLASSES)[label], -1, 1)
    loss = -(hot * np.log(q + 1e-12)).sum(axis=1).mean()
    return float(loss), ((q - hot) / label.size).astype(scores.dtype)


def backward(net, at, grad_scores):
    """The gradient of every parameter. h has two: it is sampled, and it says where."""
    head = conv2d_backward(grad_scores, at["a"], net["head"], net["head_bias"])
    grad_y = head.x * (at["layer"] > 0)
    layer = at["h"], at["offset"], net["layer"], net["layer_bias"]
    read = deform_conv2d_backward(grad_y, *layer, padding=1)
    moved = read.offset * (at["free"] == at["offset"])  # a clipped offset has no gradient
    branch = conv2d_backward(moved, at["h"], net["offset"], net["offset_bias"], padding=1)
    grad_h = (read.x + branch.x) * (at["stem"] > 0)
    stem = conv2d_backward(grad_h, at["x"], net["stem"], net["stem_bias"], stride=2, padding=1)
    layers = {"stem": stem, "layer": read, "head": head, "offset": branch}
    grads = {name: g.weight for name, g in layers.items()}
    return grads | {f"{name}_bias": g.bias for name, g in layers.items()}


def train(seed, beta, steps=120, limit=np.inf, dilation=1, rate=0.03):
    """A trained network and its losses; the offset branch learns at beta times the rate."""
    rng, adam, losses = np.random.default_rng(seed), Adam(), []
    net = network(rng, dilation)
    for i in range(steps):
        x, label = scenes(rng, 4)
        at = forward(net, x, limit)
        loss, grad_scores = cross_entropy(at["scores"], label)
        now = rate * min(1, 2 - 2 * i / steps)  # constant, then falling to 0
        rates = {name: now * (beta if name.startswith("offset") else 1) for name in net}
        adam.step(net, backward(net, at, grad_scores), rates)
        losses.append(loss)
    return net, losses


def report(net, x, label, limit=np.inf):
    """Loss and accuracy of all pixels; and, of the pixels on disks, the effective dilation and the
    fraction of their sampling points that lie outside the map, where nothing is read."""
    at, disk = forward(net, x, limit), label > 0
    points = sampling_points(at["offset"], 3, padding=1)[:, 0]
    outside = ((points <= -1) | (points >= MAP)).any(axis=-1).mean(axis=1)
    loss, right = cross_entropy(at["scores"], label)[0], at["scores"].argmax(axis=1) == label
    dilation = effective_dilation(at["offset"], 3)[:, 0]
    each = loss, right.mean(), dilation[disk].mean(), outside[disk].mean()
    return dict(zip(("loss", "accuracy", "dilation", "outside"), map(float, each), strict=True))
