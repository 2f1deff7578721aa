# Robustness of a classifier on ImageNet-C: top-1 accuracy under all 15 corruptions at 5 severities, with mCE relative
# to AlexNet (Hendrycks and Dietterich 2019). One line of inheritance:
#
#     _base_ = ['my_classifier.py', 'path/to/configs/_base_/robustness/imagenet_c.py']
#
# tools/test_robust.py takes its settings from here, where the command line does not say otherwise, and tools/train.py
# scores a small part of the grid every few validations. Images are corrupted after resize and crop, as ImageNet-C was
# made; `corrupted='data/imagenet-c'` reads the released pictures instead, without resizing them again. Published
# numbers are those of the released pictures.
robustness = dict(
    evaluation=dict(
        corruptions='benchmark',
        severities=(0, 1, 2, 3, 4, 5),
        metric='accuracy/top1',
        constants='imagenet',
        position='after_crop',
    ),
    # The best checkpoint by robust/mPC is chosen among the validations that are scored; interval=1 scores all.
    hook=dict(interval=10),
)
