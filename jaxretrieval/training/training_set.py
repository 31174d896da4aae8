"""Feature sets for training and evaluation, and the guards between them.

A set is named by a block of the config:

    config.data = {
      name: 'flickr8k' | 'multi30k' | 'coco_captions' | 'xtd10' | 'arrays'
            | 'features',
      source: '',         # captions and ready-made features; with 'features'
                          # the folder of a feature set
      dir: '',            # prepared sets; default $TFDS_DATA_DIR, else
                          # ~/tensorflow_datasets
      text_encoder: '',   # how its id begins, where there are sets of several
      ...
    }

`sources.find` gives its folder, `features.read` a split, `training_arrays` what
the device keeps. Two guards stand between training and evaluation: both must
have been made by the same encoders, and no image may be in both.
"""

import sys
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from jaxretrieval.feature_sets.captions import Captions, check_languages, hashes
from jaxretrieval.feature_sets.feature_set import Info, Split


def training_arrays(
  split: Split,
  languages: Sequence[str],
  *,
  sampling: str = 'image',
  balance: str = 'caption',
) -> dict[str, np.ndarray]:
  """What training keeps on the device: K captions for each of N images.

  A row is visited once an epoch. `cdf` says which of its captions is drawn:
  with u uniform in [0, 1), the first k with u < cdf[k].

  Args:
    split: with features; images without a caption in `languages` are left
      out, which is told on stderr.
    languages: to train on; empty takes all.
    sampling: 'image': a row for each image, which has at most K captions;
      'caption': a row for each caption, K = 1, so that image rows repeat.
    balance: 'caption': each caption of an image is as likely as another;
      'language': first a language is drawn, of those that the image has, then
      one of its captions. Only with sampling='image'.

  Returns:
    image: float16 [N, Di].
    image_id: int32 [N], equal for rows of the same image.
    text: float16 [N, K, Dt], zero where an image has fewer captions.
    caption: int32 [N, K], equal for captions equal after `normalise`; -1
      where there is none.
    cdf: float32 [N, K], cumulative probabilities; 1 from the last caption on.

  Raises:
    ValueError: an unknown language (lists those there are), sampling or
      balance.

  >>> from jaxretrieval import captions
  >>> said = captions.build([5, 8], ['5.jpg', '8.jpg'],
  ...     [(0, 'en', 'a dog'), (0, 'en', 'a pup'), (1, 'en', 'A dog')])
  >>> split = Split(said, np.ones((2, 4), 'f2'), np.ones((3, 6), 'f2'))
  >>> arrays = training_arrays(split, ['en'])
  >>> arrays['text'].shape, arrays['cdf'].tolist()
  ((2, 2, 6), [[0.5, 1.0], [1.0, 1.0]])
  >>> bool(arrays['caption'][0, 0] == arrays['caption'][1, 0])
  True
  """
  if sampling not in ('image', 'caption'):
    raise ValueError(
      f"config.data.sampling={sampling!r} is not 'image' or 'caption'"
    )
  if balance not in ('caption', 'language'):
    raise ValueError(
      f"config.data.balance={balance!r} is not 'caption' or 'language'"
    )
  if (sampling, balance) == ('caption', 'language'):
    raise ValueError(
      "config.data.balance='language' chooses among the captions of an image, "
      "but config.data.sampling='caption' makes each caption a row: use "
      "sampling='image'"
    )
  codes = np.asarray(split.captions.languages)
  known = dict(zip(*np.unique(codes, return_counts=True), strict=True))
  wanted = check_languages(languages, known, 'the training set')
  # The captions wanted, ordered by image: `where` in the split, `row` of the
  # image among those that stay, `slot` among the captions of the image.
  where = np.flatnonzero(np.isin(codes, sorted(wanted)))
  about = split.captions.image_index[where]
  order = np.argsort(about, kind='stable')
  where, about = where[order], about[order]
  images, row, counts = np.unique(
    about, return_inverse=True, return_counts=True
  )
  dropped = len(split.images) - len(images)
  if dropped:
    tqdm.write(
      f'{dropped} of {len(split.images)} images have no caption in '
      f'{", ".join(sorted(wanted))} and are left out of training',
      file=sys.stderr,
    )
  texts = [split.captions.texts[i] for i in where]
  caption = np.unique(hashes(texts), return_inverse=True)[1].astype(np.int32)
  if sampling == 'caption':
    return {
      'image': split.images[about],
      'image_id': row.astype(np.int32),
      'text': split.texts[where][:, None],
      'caption': caption[:, None],
      'cdf': np.ones((len(where), 1), np.float32),
    }
  slot = np.arange(len(where)) - np.repeat(np.cumsum(counts) - counts, counts)
  shape = (len(images), int(counts.max()))
  padded = np.full(shape, -1, np.int32)
  padded[row, slot] = caption
  text = np.zeros((*shape, split.texts.shape[1]), np.float16)
  text[row, slot] = split.texts[where]
  if balance == 'caption':
    weight = 1 / counts[row]
  else:
    number = np.unique(codes[where], return_inverse=True)[1]
    pair, pair_of, of_pair = np.unique(
      row * (number.max() + 1) + number, return_inverse=True, return_counts=True
    )
    languages_of = np.bincount(pair // (number.max() + 1))
    weight = 1 / (languages_of[row] * of_pair[pair_of])
  probability = np.zeros(shape)
  probability[row, slot] = weight
  cdf = np.cumsum(probability, axis=1)
  cdf[np.arange(shape[1]) >= counts[:, None] - 1] = 1  # whatever was rounded
  return {
    'image': split.images[images],
    'image_id': np.arange(len(images), dtype=np.int32),
    'text': text,
    'caption': padded,
    'cdf': cdf.astype(np.float32),
  }


def first_images(split: Split, images: int) -> Split:
  """The first `images` of a split with their captions, for small runs.

  Raises:
    ValueError: it has not so many. 0 takes all.
  """
  if not 0 <= images <= len(split.images):
    raise ValueError(
      f'config.data.train_images={images}: there are {len(split.images)} (0 '
      'takes all)'
    )
  return split if images == 0 else _take(split, np.arange(images))


def check_same_encoders(train: Info, evaluation: Info) -> None:
  """Raises ValueError if the two sets were made by different encoders."""
  for field in train.encoders._fields:
    one, other = (getattr(i.encoders, field) for i in (train, evaluation))
    if one != other:
      raise ValueError(
        f'the {field} features of {train.name} (training) were made by '
        f'{one!r}, those of {evaluation.name} (evaluation) by {other!r}: '
        'distances between them mean nothing. Extract both with one encoder'
      )


def overlap(
  train: Split, train_info: Info, evaluation: Split, evaluation_info: Info
) -> np.ndarray:
  """Ids of the images that are in both splits: int64 [overlap], ascending.

  Ids are compared within a namespace; sets of two namespaces share none that
  could be seen.
  """
  if train_info.namespace != evaluation_info.namespace:
    return np.empty(0, np.int64)
  return np.intersect1d(train.captions.image_ids, evaluation.captions.image_ids)


def drop_overlap(
  train: Split,
  train_info: Info,
  evaluation: Split,
  evaluation_info: Info,
  *,
  on_overlap: str,
) -> Split:
  """Keeps images of an evaluation split out of training.

  Args:
    train: the training split.
    train_info: of its set.
    evaluation: the split that must not be trained on.
    evaluation_info: of its set.
    on_overlap: `config.data.on_overlap`: 'refuse' or 'drop'.

  Returns:
    `train`, less what is in `evaluation` with on_overlap='drop' (told on
    stderr).

  Raises:
    ValueError: images are in both and on_overlap is 'refuse', or none is left.
  """
  if on_overlap not in ('refuse', 'drop'):
    raise ValueError(
      f"config.data.on_overlap={on_overlap!r} is not 'refuse' or 'drop'"
    )
  if train_info.namespace != evaluation_info.namespace:
    tqdm.write(
      f'{train_info.name} counts its images as {train_info.namespace!r}, '
      f'{evaluation_info.name} as {evaluation_info.namespace!r}: whether an '
      'image is in both cannot be seen',
      file=sys.stderr,
    )
  shared = overlap(train, train_info, evaluation, evaluation_info)
  if not shared.size:
    return train
  keep = np.flatnonzero(~np.isin(train.captions.image_ids, shared))
  first = ', '.join(str(i) for i in shared[:5])
  what = (
    f'{shared.size} of {len(train.images)} training images of '
    f'{train_info.name} are in the evaluation split of {evaluation_info.name}: '
    f'{train_info.namespace} ids {first}{", ..." if shared.size > 5 else ""}'
  )
  if on_overlap == 'refuse':
    raise ValueError(
      f'{what}. --config.data.on_overlap=drop drops them from training'
    )
  if not keep.size:
    raise ValueError(f'{what}. Without them nothing is left to train on')
  tqdm.write(f'{what}. They are dropped from training', file=sys.stderr)
  return _take(train, keep)


def _take(split: Split, rows: np.ndarray) -> Split:
  """The images at `rows` (ascending), with their captions."""
  captions = split.captions
  new = np.full(len(captions.image_ids), -1, np.int32)
  new[rows] = np.arange(len(rows))
  keep = np.flatnonzero(new[captions.image_index] >= 0)
  return Split(
    Captions(
      image_ids=captions.image_ids[rows],
      image_names=[captions.image_names[i] for i in rows],
      texts=[captions.texts[i] for i in keep],
      languages=[captions.languages[i] for i in keep],
      image_index=new[captions.image_index[keep]],
    ),
    split.images[rows],
    split.texts[keep],
  )
