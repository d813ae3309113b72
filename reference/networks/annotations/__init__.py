"""Readers of the annotations of section 4.1: Pascal VOC, Cityscapes and COCO.

    voc.objects("Annotations/2007_000027.xml")           Objects: boxes and classes of an image
    voc.labels("SegmentationClass/2007_000032.png")      the class of each pixel, H W
    voc.objects(path).truths()                           for rpn.Batch: without difficult ones
    cityscapes.labels("..._gtFine_labelIds.png")         the same, by the 19 ids of training
    coco.instances("instances_train2014.json").images    {id of an image: Objects}

Boxes are x1, y1, x2, y2 in pixels from the image's left and top edge, x2 and y2 exclusive; classes
are whole numbers, the background is 0; pixels that do not count are -1. A file that is missing is a
FileNotFoundError, one that is broken a ValueError with its name, the place and what was expected.
"""

from . import cityscapes, coco, voc
from .files import Objects

__all__ = ["Objects", "cityscapes", "coco", "voc"]
