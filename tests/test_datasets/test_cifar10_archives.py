"""Whatever archive CIFAR-10 comes in, its pictures are the same to the last pixel."""

import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from mmsharp.datasets.cifar10_archives import BATCHES, CLASSES, read_pictures
from mmsharp.datasets.cifar10_folder import CIFAR10Folder, write_cifar10_folder
from mmsharp.errors import MmsharpError

PER_BATCH = 20
SETTINGS = CIFAR10Folder(train=40, val=20, test=10, seed=3)


def _batches():
    """Names, classes and images of small batches, two images of every class in each."""
    generator = np.random.default_rng(0)
    for batch in BATCHES:
        labels = generator.permutation(np.arange(PER_BATCH) % 10)
        images = generator.integers(0, 256, (PER_BATCH, 32, 32, 3), dtype=np.uint8)
        yield batch, [f'{batch[-6:]}_s_{number:06d}.png' for number in range(PER_BATCH)], labels.tolist(), images


def _tar(path, files):
    with tarfile.open(path, 'w:gz') as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _planes(images):
    """As the official description has them: 1,024 red, 1,024 green and 1,024 blue bytes an image."""
    return np.stack([np.concatenate([image[:, :, channel].ravel() for channel in range(3)]) for image in images])


def _python(path):
    files = {'cifar-10-batches-py/batches.meta': b'no batch', 'cifar-10-batches-py/readme.html': b''}
    for batch, names, labels, images in _batches():
        held = {b'data': _planes(images), b'labels': labels, b'filenames': [name.encode() for name in names]}
        files[f'cifar-10-batches-py/{batch}'] = pickle.dumps(held, protocol=2)
    return _tar(path / 'cifar-10-python.tar.gz', files)


def _binary(path):
    files = {'cifar-10-batches-bin/batches.meta.txt': b'\n'.join(name.encode() for name in CLASSES)}
    for batch, _, labels, images in _batches():
        rows = [bytes([label]) + row.tobytes() for label, row in zip(labels, _planes(images))]
        files[f'cifar-10-batches-bin/{batch}.bin'] = b''.join(rows)
    return _tar(path / 'cifar-10-binary.tar.gz', files)


def _zips(path):
    with (
        zipfile.ZipFile(path / 'train_a.zip', 'w') as first,
        zipfile.ZipFile(path / 'train_b.zip', 'w') as second,
        zipfile.ZipFile(path / 'test.zip', 'w') as test,
    ):
        for number, (batch, names, labels, images) in enumerate(_batches()):
            part, file = ('test', test) if batch == 'test_batch' else ('train', (first, second)[number % 2])
            for name, label, image in zip(names, labels, images):
                content = io.BytesIO()
                Image.fromarray(image).save(content, 'png')
                file.writestr(f'{part}/{CLASSES[label]}/{name}', content.getvalue())
    return path


ARCHIVES = {'python': _python, 'binary': _binary, 'zip': _zips}


def _pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture.read())).convert('RGB'))


@pytest.mark.parametrize('kind', ARCHIVES)
def test_every_picture_of_every_class_is_there(kind, tmp_path):
    """Sets of pixels per part and class, whatever the names."""
    wanted = {}
    for batch, _, labels, images in _batches():
        for label, image in zip(labels, images):
            part = 'test' if batch == 'test_batch' else 'train'
            wanted.setdefault((part, CLASSES[label]), []).append(image.tobytes())
    found = read_pictures(ARCHIVES[kind](tmp_path))
    assert {key: sorted(_pixels(picture).tobytes() for picture in pictures) for key, pictures in found.items()} == {
        key: sorted(images) for key, images in wanted.items()
    }
    assert len({(key, picture.name) for key, pictures in found.items() for picture in pictures}) == 6 * PER_BATCH


def _written(source, folder):
    list(write_cifar10_folder(source, folder, SETTINGS))
    return {
        path.relative_to(folder).as_posix(): np.asarray(Image.open(path)).tobytes() for path in folder.rglob('*.png')
    }


def test_a_seed_draws_the_same_images_from_archives_with_names(tmp_path):
    """So that who has the official archive can repeat what was measured with the other one."""
    for kind in ARCHIVES:
        (tmp_path / kind).mkdir()
    sources = {kind: make(tmp_path / kind) for kind, make in ARCHIVES.items()}
    official = _written(sources['python'], tmp_path / 'a')
    assert len(official) == 70
    assert official == _written(sources['zip'], tmp_path / 'b')
    assert len(_written(sources['binary'].parent, tmp_path / 'c')) == 70  # a folder does as well as the file
    renamed = sources['binary'].rename(tmp_path / 'cifar10.tar.gz')  # whatever the file is called
    with pytest.raises(MmsharpError, match='names'):
        _written(renamed, tmp_path / 'a')


def test_a_damaged_picture_is_named(tmp_path):
    """With its archive; nothing is left behind."""
    source = _zips(tmp_path)
    content = bytearray((source / 'test.zip').read_bytes())
    with zipfile.ZipFile(source / 'test.zip') as archive:
        first = archive.infolist()[0]
    content[first.header_offset + 200] ^= 255
    (source / 'test.zip').write_bytes(content)
    everything = CIFAR10Folder(train=50, val=20, test=20)
    with pytest.raises(MmsharpError, match=r"in archive .*test\.zip' cannot be read"):
        list(write_cifar10_folder(source, tmp_path / 'set', everything))
    assert not (tmp_path / 'set').exists()


class _Harmful:
    def __reduce__(self):
        return print, ('ran',)


def test_a_pickle_that_asks_for_more_than_arrays_does_not_run(tmp_path, capsys):
    """An archive from anywhere is data, not a program."""
    path = _tar(tmp_path / 'bad.tar.gz', {'cifar-10-batches-py/data_batch_1': pickle.dumps(_Harmful())})
    with pytest.raises(MmsharpError, match=r'asks for builtins\.print'):
        read_pictures(path)
    assert not capsys.readouterr().out


def test_broken_archives_are_named(tmp_path):
    """With what is wrong and where to get a whole one."""
    whole = _binary(tmp_path).read_bytes()
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 255
    for content in (b'', b'no archive', whole[: len(whole) // 2], broken):
        (tmp_path / 'half.tar.gz').write_bytes(content)
        with pytest.raises(MmsharpError, match=r'half\.tar\.gz.*cs\.toronto\.edu'):
            read_pictures(tmp_path / 'half.tar.gz')
    odd = _tar(tmp_path / 'odd.tar.gz', {'cifar-10-batches-bin/data_batch_1.bin': b'12345'})
    with pytest.raises(MmsharpError, match='cannot be read'):
        read_pictures(odd)
    label = _tar(tmp_path / 'label.tar.gz', {'cifar-10-batches-bin/data_batch_1.bin': bytes([10]) + bytes(3072)})
    with pytest.raises(MmsharpError, match='cannot be read'):
        read_pictures(label)
    array = pickle.dumps(np.zeros(3, np.uint8))
    other = _tar(tmp_path / 'other.tar.gz', {'cifar-10-batches-py/data_batch_1': array})
    with pytest.raises(MmsharpError, match='cannot be read'):
        read_pictures(other)
    lacking = _tar(tmp_path / 'lacking.tar.gz', {'cifar-10-batches-bin/data_batch_1.bin': bytes(3073)})
    with pytest.raises(MmsharpError, match='lacks data_batch_2, data_batch_3, data_batch_4, data_batch_5, test_batch'):
        read_pictures(lacking)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(MmsharpError, match='has no CIFAR-10; expected'):
        read_pictures(tmp_path / 'empty')
