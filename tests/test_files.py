"""A file is there as a whole or not at all; a damaged one is named."""

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.files import check_keys, read_json, write_json, write_text


def test_what_is_written_comes_back(tmp_path):
    """Text and JSON, in place of what was there, and nothing beside it."""
    write_text(tmp_path / 'a.txt', 'old')
    write_text(tmp_path / 'a.txt', 'né\n')
    write_json(tmp_path / 'a.json', {'a': [1, None]})
    assert (tmp_path / 'a.txt').read_text(encoding='utf-8') == 'né\n'
    assert read_json(tmp_path / 'a.json', 'write it again') == {'a': [1, None]}
    assert {path.name for path in tmp_path.iterdir()} == {'a.txt', 'a.json'}


def test_a_write_that_fails_changes_nothing(tmp_path):
    """The old content stays, the half of the new one is gone."""
    write_json(tmp_path / 'a.json', {'a': 1})
    with pytest.raises(ValueError, match='JSON'):
        write_json(tmp_path / 'a.json', {'a': float('nan')})
    (tmp_path / 'folder').mkdir()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / 'folder', 'whole')
    (tmp_path / 'folder').rmdir()
    assert read_json(tmp_path / 'a.json', 'write it again') == {'a': 1}
    assert [path.name for path in tmp_path.iterdir()] == ['a.json']


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (None, 'FileNotFoundError'),
        (b'', 'JSONDecodeError'),
        (b'{"a": 1', 'JSONDecodeError'),
        (b'\xff\xfe{}', 'UnicodeDecodeError'),
        (b'[' * 100_000, 'RecursionError'),
        (b'[1]', 'a list'),
        (b'{"b": 1}', "lacks 'a'"),
        (b'{"a": 1, "b": 2, "a": 1}', "key 'a' is 2 times in one object"),
        (b'{"a": [{"c": 1, "c": 2, "c": 3}]}', "key 'c' is 3 times in one object"),
    ],
)
def test_damaged_json_is_one_line(tmp_path, content, words):
    """The file, what is wrong, and what to do."""
    if content is not None:
        (tmp_path / 'a.json').write_bytes(content)
    with pytest.raises(MmsharpError, match=words) as caught:
        read_json(tmp_path / 'a.json', 'write it again', keys=['a'])
    message = str(caught.value)
    assert 'a.json' in message
    assert message.endswith('; write it again')
    assert '\n' not in message


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        ([], 'thing: expected a mapping, found list'),
        ({}, r"thing: unknown keys \[\], missing keys \['a'\]"),
        ({'a': 1, 'b': 2}, r"thing: unknown keys \['b'\], missing keys \[\]"),
        ({'a': 1, 10**5000: 2, None: 3}, r'unknown keys \[None, an integer of 16610 bits\]'),
        ({'a': 1, **{f'{number:06}': 0 for number in range(100_000)}}, r"'000005', \.\.\. \(100000 in all\)\]"),
        ({'a': 1, 'x' * 2**20: 2}, r'xxx\.\.\.xxx'),
    ],
)
def test_other_keys_are_named_in_few_words(data, words):
    """Whatever and however many they are."""
    with pytest.raises(MmsharpError, match=words) as refusal:
        check_keys(data, 'thing', {'a'})
    assert len(str(refusal.value)) < 300
    check_keys({'a': 1}, 'thing', {'a'})
