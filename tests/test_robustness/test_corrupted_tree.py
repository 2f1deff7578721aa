"""Trees of corrupted pictures: as released, as downloaded in parts, with names that have to be told apart."""

import json
import time

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.robustness import TREE_MANIFEST, Cell, CorruptedTree, check_cells


def _tree(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b'picture')
    return root


def test_the_parts_that_imagenet_c_is_downloaded_in_are_looked_through(tmp_path):
    """blur/defocus_blur/1/... is as good as defocus_blur/1/..., and what is no corruption is left alone."""
    _tree(tmp_path, 'blur/defocus_blur/1/n01/a.JPEG', 'weather/snow/5/n01/a.JPEG', 'notes/readme/1/a.JPEG')
    tree = CorruptedTree(tmp_path)
    assert tree.cells == (Cell('defocus_blur', 1), Cell('snow', 5))
    assert tree.files == ['n01/a.JPEG']
    assert tree.path(Cell('snow', 5), 'n01/a.JPEG') == str(tmp_path / 'weather/snow/5/n01/a.JPEG')


def test_images_are_found_by_name_and_folders_above_it(tmp_path):
    """The suffix may differ; of pictures of one name the one with the same folders is taken; a flat set has none."""
    tree = CorruptedTree(_tree(tmp_path, 'fog/1/cat/1.png', 'fog/1/dog/1.png', 'fog/1/cat/3.png', 'fog/1/dog/2.png'))
    assert tree.match(['/data/val/dog/1.JPEG', '/data/val/cat/1.JPEG', '/data/val/dog/2.JPEG']) == {
        '/data/val/dog/1.JPEG': 'dog/1.png',
        '/data/val/cat/1.JPEG': 'cat/1.png',
        '/data/val/dog/2.JPEG': 'dog/2.png',
    }
    assert tree.match(['val/3.JPEG', 'val/2.JPEG']) == {'val/3.JPEG': 'cat/3.png', 'val/2.JPEG': 'dog/2.png'}
    nested = CorruptedTree(_tree(tmp_path / 'nested', 'fog/1/VOC2007/a.png', 'fog/1/VOC2007/more/b.png'))
    assert nested.match(['mine/a.jpg', 'mine/more/b.jpg'][1:]) == {'mine/more/b.jpg': 'VOC2007/more/b.png'}
    same = ['/d/VOC2007/a.jpg', '/d/VOC2007/more/b.jpg']
    assert list(nested.match(same).values()) == ['VOC2007/a.png', 'VOC2007/more/b.png']


@pytest.mark.parametrize(
    'images',
    [['val/dog/1.png'], ['val/dog/1.png', 'val/cat/2.png']],
    ids=['one', 'exchanged'],
)
def test_a_picture_out_of_another_folder_of_the_tree_is_not_taken(tmp_path, images):
    """Where the tree has a folder of that name, the image has to be in there."""
    tree = CorruptedTree(_tree(tmp_path, 'fog/1/cat/1.png', 'fog/1/dog/2.png'))
    with pytest.raises(MmsharpError, match=rf'of {len(images)} test images are not in .*val/dog/1\.png'):
        tree.match(images)


@pytest.mark.parametrize(
    ('images', 'example'),
    [
        (['a/1.png', 'b/2.png'], r'2 of 2 .*a/1\.png as cat/1\.png'),
        (['val/cat/1.png', 'val/emu/2.png'], r'1 of 2 .*val/emu/2\.png as dog/2\.png'),
    ],
    ids=['no folder in common', 'fewer folders than others'],
)
def test_images_of_several_folders_have_to_share_theirs(tmp_path, images, example):
    """A name alone says little where it may be in any of the folders."""
    tree = CorruptedTree(_tree(tmp_path, 'fog/1/cat/1.png', 'fog/1/dog/2.png'))
    with pytest.raises(MmsharpError, match=f'{example}; is it a tree of another data set'):
        tree.match(images)


def test_the_time_of_matching_does_not_grow_with_the_square(tmp_path):
    """Fifty thousand images in a thousand folders, the names of the files the same in each."""
    tree = CorruptedTree(_tree(tmp_path, 'fog/1/n0/0.png'))
    names = [f'n{folder}/{number}' for folder in range(1000) for number in range(50)]
    tree._files = [f'{name}.png' for name in names]
    began = time.process_time()
    found = tree.match([f'/data/val/{name}.JPEG' for name in names])
    assert time.process_time() - began < 10
    assert all(file == f'{image[len("/data/val/") : -len(".JPEG")]}.png' for image, file in found.items())


def test_folders_that_are_links_are_followed(tmp_path):
    """As a tree is put together without copying."""
    _tree(tmp_path / 'elsewhere', 'cat/1.png')
    (tmp_path / 'tree/fog/1').mkdir(parents=True)
    (tmp_path / 'tree/fog/1/cat').symlink_to(tmp_path / 'elsewhere/cat')
    assert CorruptedTree(tmp_path / 'tree').files == ['cat/1.png']


def test_images_that_are_missing_or_cannot_be_told_apart_are_refused_by_name(tmp_path):
    """Also two images of the data set that would get one picture."""
    tree = CorruptedTree(_tree(tmp_path, 'fog/1/cat/1.png', 'fog/1/dog/1.png', 'fog/1/dog/2.png'))
    with pytest.raises(MmsharpError, match=r'1 of 2 test images are not in .*, for example val/dog/3\.png'):
        tree.match(['val/dog/3.png', 'val/dog/2.png'])
    with pytest.raises(MmsharpError, match=r'cannot be told apart .*val/1\.png'):
        tree.match(['val/1.png'])
    with pytest.raises(MmsharpError, match=r'cannot be told apart .*a/2\.png, b/2\.png'):
        tree.match(['a/2.png', 'b/2.png'])


def test_what_is_no_tree_is_refused(tmp_path):
    """A missing folder, one without corruptions, and a broken manifest."""
    with pytest.raises(MmsharpError, match='does not exist'):
        CorruptedTree(tmp_path / 'nowhere')
    with pytest.raises(MmsharpError, match='holds no corrupted images; expected <corruption>/<severity>'):
        CorruptedTree(_tree(tmp_path / 'images', 'cat/1.png'))
    _tree(tmp_path / 'broken', 'fog/1/1.png', TREE_MANIFEST)
    with pytest.raises(MmsharpError, match='cannot be read'):
        CorruptedTree(tmp_path / 'broken')


def test_the_digest_follows_names_and_manifest_and_not_the_place(tmp_path):
    """A copy elsewhere has the same; another seed in the manifest has not."""
    first = CorruptedTree(_tree(tmp_path / 'a', 'fog/1/1.png')).digest()
    assert CorruptedTree(_tree(tmp_path / 'b', 'fog/1/1.png')).digest() == first
    (tmp_path / 'b' / TREE_MANIFEST).write_text(json.dumps({'seed': 1}))
    assert CorruptedTree(tmp_path / 'b').digest() != first
    assert CorruptedTree(_tree(tmp_path / 'c', 'fog/1/2.png')).digest() != first


def test_missing_cells_are_named_and_counted():
    """Three of them, and how many more."""
    wanted = [Cell('snow', level) for level in range(1, 6)]
    check_cells([Cell.clean()], [], 'tree')
    with pytest.raises(MmsharpError, match=r"'tree' does not hold snow/1, snow/2, snow/4 and 1 more"):
        check_cells(wanted, [Cell('snow', 3)], 'tree')


def test_links_that_lead_back_are_not_followed(tmp_path):
    """To the folder itself, to the one above, to each other, to themselves; other links are."""
    root = _tree(tmp_path / 'tree', 'fog/1/cat/1.png', 'fog/1/dog/2.png')
    _tree(tmp_path / 'elsewhere', 'emu/3.png')
    folder = root / 'fog/1'
    (folder / 'emu').symlink_to(tmp_path / 'elsewhere/emu')
    (folder / 'again').symlink_to(folder)
    (folder / 'cat/above').symlink_to(root)
    (folder / 'cat/dog').symlink_to(folder / 'dog')
    (folder / 'dog/cat').symlink_to(folder / 'cat')
    (folder / 'itself').symlink_to(folder / 'itself')
    (root / 'snow').symlink_to(root / 'snow')
    tree = CorruptedTree(root)
    assert tree.cells == (Cell('fog', 1),)
    assert [file for file in tree.files if file.count('/') == 1] == ['cat/1.png', 'dog/2.png', 'emu/3.png']
    assert len(tree.files) < 20
