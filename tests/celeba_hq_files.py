"""CelebA-HQ as it is released, with a few grey faces."""

import cv2
import numpy as np


def write_celeba_hq(root, images=6, attributes=('Smiling', 'Male')):
    """Six faces of 16x16, two per split, men in the even ones; HQ's numbers are not CelebA's."""
    (root / 'CelebA-HQ-img').mkdir(parents=True)
    lines, mapping, partition = [], ['idx orig_idx orig_file'], []
    for number in range(images):
        cv2.imwrite(str(root / f'CelebA-HQ-img/{number}.jpg'), np.full((16, 16, 3), 20 * number, dtype=np.uint8))
        lines.append(f'{number}.jpg  -1 {1 if number % 2 == 0 else -1}')
        original = images - 1 - number
        mapping.append(f'{number} {original} {original:06d}.jpg')
        partition.append(f'{original:06d}.jpg {number * 3 // images}')
    (root / 'CelebAMask-HQ-attribute-anno.txt').write_text('\n'.join([str(images), ' '.join(attributes), *lines, '']))
    (root / 'CelebA-HQ-to-CelebA-mapping.txt').write_text('\n'.join(mapping) + '\n')
    (root / 'list_eval_partition.txt').write_text('\n'.join(sorted(partition)) + '\n')
