"""Fail unless the compiled operators of mmcv load and compute: run with the environment's Python."""

import torch
from mmcv.ops import nms, roi_align


def main() -> None:
    """Suppress one of two overlapping boxes and pool a constant image."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]])
    _, kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    if kept.tolist() != [0, 2]:
        raise SystemExit(f'nms kept {kept.tolist()}; right is [0, 2]')
    pooled = roi_align(torch.ones(1, 1, 8, 8), torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]]), (2, 2))
    if not torch.equal(pooled, torch.ones(1, 1, 2, 2)):
        raise SystemExit(f'roi_align of ones gave {pooled.tolist()}')


if __name__ == '__main__':
    main()
