"""Fail unless everything that mmsharp needs imports and ``cv2`` is headless: run with the environment's Python."""

import importlib
import warnings

import cv2

MODULES = (
    'torch', 'torchvision', 'mmengine', 'mmcv.ops', 'mmdet.registry', 'mmpretrain.registry', 'imagecorruptions',
    'torch_pruning', 'skimage', 'sklearn', 'mmsharp',
)  # fmt: skip


def main() -> None:
    """Import every module and look at OpenCV's build."""
    warnings.simplefilter('ignore')
    for name in MODULES:
        importlib.import_module(name)
    windows = cv2.getBuildInformation().partition('GUI:')[2].split()[:1]
    if windows != ['NONE']:
        raise SystemExit(f'cv2 {cv2.__version__} in {cv2.__file__} is not headless: GUI {windows}')


if __name__ == '__main__':
    main()
