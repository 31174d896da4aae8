import pathlib

import numpy as np
import pytest

from jaxretrieval.feature_sets import captions

GOOD = captions.build(
  [7, 9], ['7.jpg', '9.jpg'], [(0, 'en', 'a dog'), (1, 'de', 'eine Katze')]
)


@pytest.mark.parametrize(
  'fields, match',
  [
    (
      {'image_ids': np.array([7, 7])},
      r'0 \(7.jpg\) and 1 \(9.jpg\).*same id 7',
    ),
    ({'image_ids': np.array([7, 9], np.int32)}, 'image_ids is int32'),
    ({'image_names': ['7.jpg']}, 'image_names has 1'),
    ({'languages': ['en']}, 'languages has 1'),
    ({'image_index': np.array([0], np.int32)}, 'image_index has 1'),
    (
      {'image_index': np.array([0, 2], np.int32)},
      "'eine Katze'.*image_index=2",
    ),
    ({'image_index': np.array([-1, 1], np.int32)}, 'image_index=-1'),
    ({'image_index': np.array([1, 1], np.int32)}, r'image 0 \(7.jpg\) has no'),
    ({'texts': ['a dog', ' \t']}, r'caption 1 \(de, of 9.jpg\) is empty'),
    ({'languages': ['en', 'German']}, "caption 1 has language 'German'"),
  ],
)
def test_what_does_not_fit_together_is_named(fields, match):
  with pytest.raises(ValueError, match=match):
    captions.check(GOOD._replace(**fields))


def test_good_captions_pass():
  captions.check(GOOD)
  captions.check(GOOD._replace(languages=['en', 'zh-Hant']))


def test_lines_end_as_they_like(tmp_path):
  path = tmp_path / 'x.txt'
  # U+2028 and U+0085 end lines for str.splitlines, but stand in captions.
  lines = ['a\u2028b', '', 'c\x85', 'd']
  for end in '\n', '\r\n', '\r':
    for last in end, '':
      path.write_bytes((end.join(lines) + last).encode())
      assert captions.read_lines(path) == lines, repr(end)
  path.write_bytes('\ufeffa\n'.encode())
  assert captions.read_lines(path) == ['a'], 'the byte order mark is text'
  path.write_bytes(b'a\n\xff\n')
  with pytest.raises(ValueError, match='x.txt is not UTF-8'):
    captions.read_lines(path)
  with pytest.raises(FileNotFoundError, match='y.txt'):
    captions.read_lines(pathlib.Path(tmp_path / 'y.txt'))


def test_image_ids():
  assert captions.coco_id('x/COCO_train2014_000000061844.jpg') == 61844
  assert captions.coco_id('000000061844.jpg') == 61844
  assert captions.flickr_id('images/1000092795.jpg') == 1000092795
  assert captions.flickr_id('1000268201_693b08cb0e.jpg#0') == 1000268201
  for name in '61844.jpg', 'dog.jpg', 'COCO_000000061844x.jpg':
    with pytest.raises(ValueError, match=name):
      captions.coco_id(name)
  for name in 'dog.jpg', '12_dog.jpg', 'COCO_train2014_000000061844.jpg':
    with pytest.raises(ValueError, match=name):
      captions.flickr_id(name)


def test_hashes_are_of_the_normalised_text():
  # Fixed for good: they are stored in feature sets.
  assert captions.hashes(['a dog']).tolist() == [-4081912340589182210]
  same = ['Straße', 'STRASSE', ' strasse\n', '\uff33trasse']
  assert len(set(captions.hashes(same).tolist())) == 1
  assert len(set(captions.hashes(['a dog', 'a dog.', 'adog']).tolist())) == 3
  assert captions.hashes([]).shape == (0,)
