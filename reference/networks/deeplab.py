"""DeepLab (section 4.1; Chen et al. 2017): a 1x1 convolution of a trunk's features, up-sampled.

    net = deeplab(rng, resnet.trunk(rng, 101))
    net = deformable(net, last(net, 3))
    value = loss(net, tape, images, labels)      labels N H W, -1 where there is none
    classes = predict(net, images)               N H W

Up-sampling is bilinear and fixed: `primitives.upsample`, which puts the corner cells of the map on
the corner pixels of the image. The authors' code has a fixed deconvolution, whose cell i lies on
pixel 16 i + 7.5. Its branches of offsets have no dilation, against the paper's text: see
`imported.mxnet`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from . import settings
from .door import check_top, images_of, number_of
from .layers import Conv2d, conv
from .tape import Tape

HEAD = settings.of_head(settings.VOC["DeepLab"])
IGNORED = -1  # the label of pixels that do not count, of the readers in `annotations`


@dataclass(eq=False)
class DeepLab:
    """Scores N classes H W of images N C H W.

    trunk  has stages(tape, images), whose second map is that of the top
    """

    trunk: Any
    score: Conv2d

    def __call__(self, tape: Tape, x: Array) -> Array:
        cells = self.cells(tape, x)
        return tape.upsample(cells, tuple(x.shape[2:]))

    def cells(self, tape: Tape, x: Array) -> Array:
        """The scores before up-sampling, of each cell of the trunk's map."""
        return self.score(tape, self.trunk.stages(tape, images_of(x))[1])


def deeplab(
    rng: np.random.Generator, trunk: Any, classes: int = HEAD["classes"], *,
    channels: int = HEAD["channels"], dtype: Any = np.float32,
) -> DeepLab:  # fmt: skip
    """A new network on a trunk; VOC has 21 classes, Cityscapes 19.

    trunk     is not copied
    channels  those of the trunk's top map; ValueError where its `top` has others
    Its scores start small, so that the first losses are those of a guess.
    """
    score = conv(rng, channels, number_of(classes), 1, dtype=dtype)
    check_top(trunk, channels)
    score.weight = score.weight * score.weight.dtype.type(0.1)
    return DeepLab(trunk, score)


def loss(
    net: DeepLab, tape: Tape, images: Array, labels: Array, *, ignored: int = IGNORED
) -> Array:
    """The softmax loss, averaged over all pixels whose label, of N H W, is not `ignored`.

    ignored  -1 as the readers of `annotations` have it; 255 for the indices of files as they are
    """
    return tape.softmax_loss(net(tape, images), labels, ignored=ignored)


def predict(net: DeepLab, images: Array, *, ops: Any = None) -> Array:
    """The class of each pixel, N H W, without keeping activations; ops as of `Tape`."""
    return net(Tape(ops=ops), images).argmax(axis=1)
