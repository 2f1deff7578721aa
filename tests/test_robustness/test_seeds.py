"""Seeds are a documented hash of seed, image, corruption and severity."""

import hashlib

import pytest

from mmsharp.robustness import NAMES, SEVERITIES, cell_seed, image_id


def test_formula_longhand():
    """The seed is the first 16 bytes of SHA-256 over the compact JSON list."""
    digest = hashlib.sha256(b'[7,"2008_000001","fog",3]').hexdigest()
    assert cell_seed(7, '2008_000001', 'fog', 3) == int(digest[:32], 16)


def test_every_argument_counts():
    """No two combinations of a small table share a seed."""
    seeds = {
        cell_seed(seed, name, corruption, severity)
        for seed in (0, 1)
        for name in ('1', '2', '11')
        for corruption in NAMES
        for severity in SEVERITIES
    }
    assert len(seeds) == 2 * 3 * len(NAMES) * len(SEVERITIES)


@pytest.mark.parametrize(
    ('info', 'root', 'expected'),
    [
        ({'img_id': '000001', 'img_path': '/a/b.jpg'}, '/a', '000001'),
        ({'img_id': 0}, None, '0'),
        ({'img_path': '/a/x/b.jpg', 'sample_idx': 3}, '/a', 'x/b.jpg'),
        ({'img_path': 'a\\x\\b.jpg'}, 'a/', 'x/b.jpg'),
        ({'img_path': '/far/elsewhere/b.jpg'}, '/a', 'elsewhere/b.jpg'),
        ({'img_path': '/b.jpg'}, '/a', 'b.jpg'),
        ({'sample_idx': 3}, '/a', '#3'),
    ],
)
def test_image_names_do_not_depend_on_the_machine(info, root, expected):
    """img_id wins, then the path below the data root, then the sample's number."""
    assert image_id(info, root) == expected


def test_an_image_without_a_name_is_an_error():
    """Nothing is invented."""
    with pytest.raises(KeyError):
        image_id({})
