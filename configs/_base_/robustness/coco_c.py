# Robustness of a detector on COCO: all 15 corruptions at 5 severities of the test images, scored by AP over IoU
# 0.50 to 0.95 (Michaelis et al. 2019, COCO-C). One line of inheritance:
#
#     _base_ = ['my_detector.py', 'path/to/configs/_base_/robustness/coco_c.py']
#
# tools/test_robust.py takes its settings from here, where the command line does not say otherwise, and tools/train.py
# scores a small part of the grid every few validations. `corrupted='data/COCO-C'` reads a tree of corrupted images
# instead of computing them.
robustness = dict(
    evaluation=dict(
        corruptions='benchmark',
        severities=(0, 1, 2, 3, 4, 5),
        metric='coco/bbox_mAP',
        constants='imagenet',
        position='after_loading',
    ),
    # The best checkpoint by robust/mPC is chosen among the validations that are scored; interval=1 scores all.
    hook=dict(interval=4),
)
