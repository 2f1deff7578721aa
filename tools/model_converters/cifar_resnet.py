"""Convert published weights of ResNet-20 to ResNet-1202 for CIFAR-10 to a checkpoint of mmpretrain's ImageClassifier.

    python tools/model_converters/cifar_resnet.py resnet20-12fca82f.th resnet20_cifar10.pth

The weights are those of akamaster/pytorch_resnet_cifar10 (BSD-2-Clause). They expect images in [0, 1], normalised with
mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225): in a config, times 255.
"""

from __future__ import annotations

import argparse
import os

import torch

from mmsharp.command_line import run
from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint
from mmsharp.errors import MmsharpError
from mmsharp.files import appearing_whole

PREFIX = 'module.'
CLASSIFIER = 'linear.'


def convert(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the layers; shapes and values stay.

    Raises:
        MmsharpError: The names are not those of the published weights.
    """
    converted = {}
    for name, value in weights.items():
        plain = name.removeprefix(PREFIX)
        target = f'head.fc.{plain.removeprefix(CLASSIFIER)}' if plain.startswith(CLASSIFIER) else f'backbone.{plain}'
        converted[target] = value
    if not {'backbone.conv1.weight', 'backbone.layer3.0.conv1.weight', 'head.fc.weight'} <= set(converted):
        raise MmsharpError('these are no weights of a ResNet for CIFAR: expected conv1, layer1 to layer3 and linear')
    return converted


def convert_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> int:
    """Convert a file; gives the number of tensors.

    Raises:
        MmsharpError: It cannot be read, or holds other weights.
    """
    content = check_checkpoint(source)
    weights = convert(content.get('state_dict', content))
    with appearing_whole(target) as part:
        torch.save({'state_dict': weights, 'meta': {}}, part)
    return len(weights)


def main() -> None:
    """Read, rename, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='published weights, .th')
    parser.add_argument('target', help='checkpoint to write, .pth')
    args = parser.parse_args()
    print(f'{args.target}: {convert_file(args.source, args.target)} tensors')


if __name__ == '__main__':
    run(main)
