"""Training arrays: images and padded captions of a split, for the device."""

import sys
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from jaxretrieval.feature_sets.captions import check_languages, hashes
from jaxretrieval.feature_sets.feature_set import Split


def training_arrays(
  split: Split,
  languages: Sequence[str],
  *,
  sampling: str = 'image',
  balance: str = 'caption',
) -> dict[str, np.ndarray]:
  """Returns the arrays that training keeps on the device.

  They hold N examples with up to K captions each. An epoch visits each example
  once and draws one of its captions: with u uniform in [0, 1), the first k with
  u < cdf[k].

  Args:
    split: a split with features. Images without a caption in `languages` are
      left out, with a warning on stderr.
    languages: languages to train on; empty for all.
    sampling: 'image': one example for each image, with all its captions;
      'caption': one example for each caption (K = 1), so that images repeat.
    balance: 'caption': all captions of an image are equally likely;
      'language': one of the languages of the image is drawn uniformly, then one
      of its captions. Requires sampling='image'.

  Returns:
    image: float16 [N, Di].
    image_id: int32 [N], equal for examples of the same image.
    text: float16 [N, K, Dt], padded with zeros.
    caption: int32 [N, K], equal for captions that are equal after
      `captions.normalise`, padded with -1.
    cdf: float32 [N, K], cumulative probabilities; 1 from the last caption on.

  Raises:
    ValueError: `languages`, `sampling` or `balance` is not allowed.

  >>> from jaxretrieval.feature_sets import captions
  >>> built = captions.build([5, 8], ['5.jpg', '8.jpg'],
  ...     [(0, 'en', 'a dog'), (0, 'en', 'a pup'), (1, 'en', 'A dog')])
  >>> split = Split(built, np.ones((2, 4), 'f2'), np.ones((3, 6), 'f2'))
  >>> arrays = training_arrays(split, ['en'])
  >>> arrays['text'].shape, arrays['cdf'].tolist()
  ((2, 2, 6), [[0.5, 1.0], [1.0, 1.0]])
  >>> bool(arrays['caption'][0, 0] == arrays['caption'][1, 0])
  True
  """
  if sampling not in ('image', 'caption'):
    raise ValueError(
      f"config.data.sampling={sampling!r} must be 'image' or 'caption'"
    )
  if balance not in ('caption', 'language'):
    raise ValueError(
      f"config.data.balance={balance!r} must be 'caption' or 'language'"
    )
  if (sampling, balance) == ('caption', 'language'):
    raise ValueError(
      "config.data.balance='language' requires config.data.sampling='image', "
      "because with 'caption' each example has one caption"
    )
  codes = np.asarray(split.captions.languages)
  known = dict(zip(*np.unique(codes, return_counts=True), strict=True))
  wanted = check_languages(languages, known, 'the training set')
  # The selected captions, ordered by image: `selected` are their rows in the
  # split, `row` is the example of each, `slot` its position in the example.
  selected = np.flatnonzero(np.isin(codes, sorted(wanted)))
  image_index = split.captions.image_index[selected]
  order = np.argsort(image_index, kind='stable')
  selected, image_index = selected[order], image_index[order]
  images, row, counts = np.unique(
    image_index, return_inverse=True, return_counts=True
  )
  dropped = len(split.images) - len(images)
  if dropped:
    tqdm.write(
      f'{dropped} of {len(split.images)} images have no caption in '
      f'{", ".join(sorted(wanted))} and are left out of training',
      file=sys.stderr,
    )
  texts = [split.captions.texts[i] for i in selected]
  caption = np.unique(hashes(texts), return_inverse=True)[1].astype(np.int32)
  if sampling == 'caption':
    return {
      'image': split.images[image_index],
      'image_id': row.astype(np.int32),
      'text': split.texts[selected][:, None],
      'caption': caption[:, None],
      'cdf': np.ones((len(selected), 1), np.float32),
    }
  first = np.cumsum(counts) - counts
  slot = np.arange(len(selected)) - np.repeat(first, counts)
  shape = (len(images), int(counts.max()))
  padded = np.full(shape, -1, np.int32)
  padded[row, slot] = caption
  text = np.zeros((*shape, split.texts.shape[1]), np.float16)
  text[row, slot] = split.texts[selected]
  if balance == 'caption':
    weight = 1 / counts[row]
  else:
    # A pair is a language of an image.
    number = np.unique(codes[selected], return_inverse=True)[1]
    pairs, pair, captions_of = np.unique(
      row * (number.max() + 1) + number, return_inverse=True, return_counts=True
    )
    languages_of = np.bincount(pairs // (number.max() + 1))
    weight = 1 / (languages_of[row] * captions_of[pair])
  probability = np.zeros(shape)
  probability[row, slot] = weight
  cdf = np.cumsum(probability, axis=1)
  cdf[np.arange(shape[1]) >= counts[:, None] - 1] = 1  # exact, not rounded
  return {
    'image': split.images[images],
    'image_id': np.arange(len(images), dtype=np.int32),
    'text': text,
    'caption': padded,
    'cdf': cdf.astype(np.float32),
  }
