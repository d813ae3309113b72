"""Networks of the paper's layers (sections 2.3, 3 and 4): a tape of gradients and its operators.

Small networks, for minutes on a laptop:
    tape               calls of operators, and the gradients of what they compute
    primitives         operators beside the paper's
    losses             softmax and smooth L1
    layers             arrays and their operators; `deformable`
    roi_layers         RoI pooling of Figures 3 and 4
    segmenter          a small segmentation network
    detector           a small detector
    scale_world        pictures of shapes in all sizes
    metrics            mean intersection over union, average precision
The paper's own networks, section 4.1:
    resnet             ResNet-18, 50 and 101 as trunks
    aligned_inception  Aligned-Inception-ResNet
    deeplab            DeepLab
    rpn                proposal networks, and the category-aware RPN
    faster_rcnn        Faster R-CNN
    rfcn               R-FCN
    two_stage          what these two share: loss, predict, detect
    anchors            anchors and their targets
    boxes              proposals, their targets, suppression
    detections         from predictions to detections
    scales             Table 5's test at several scales
    parts              Figure 7: where bins move
    count              Tables 4, 6 and 7, and times
    counting           parameters and multiply-adds without numbers
    runtime            how long networks take
Weights of other libraries:
    imported           torchvision, MXNet, mmdetection
    imported_names     the names of their entries
Data and settings:
    annotations        readers of VOC, Cityscapes and COCO
    protocols          section 4.1 as data
    released_code      the same of the authors' code
    cited              what the paper leaves open, filled
    settings           from a protocol to arguments of the networks
Training:
    training           steps, and checkpoints that resume
    optimisers         SGD and Adam
    frozen             what training leaves as it is
    parallel           several processes that step as one
Devices:
    device             the same networks on a GPU
    door               what is asked of arrays, there too
"""

from .tape import Tape

__all__ = ["Tape"]
