# Robustness of a classifier on CIFAR-10-C: top-1 accuracy under all 15 corruptions at 5 severities, with the severities
# that were chosen for 32x32 pixels (Hendrycks and Dietterich 2019). One line of inheritance:
#
#     _base_ = ['my_classifier.py', 'path/to/configs/_base_/robustness/cifar10_c.py']
#
# tools/test_robust.py takes its settings from here, where the command line does not say otherwise, and tools/train.py
# scores a small part of the grid every few validations. `corrupted='data/CIFAR-10-C'` reads the released .npy files
# instead of computing the pictures (with mmpretrain's CIFAR10 data set, whose order they have). Published numbers are
# those of the released arrays.
robustness = dict(
    evaluation=dict(
        corruptions='benchmark',
        severities=(0, 1, 2, 3, 4, 5),
        metric='accuracy/top1',
        constants='cifar',
    ),
    # The best checkpoint by robust/mPC is chosen among the validations that are scored; interval=1 scores all.
    hook=dict(interval=10),
)
