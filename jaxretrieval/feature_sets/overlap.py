"""Checks that no training image is in the splits that evaluate.

Both sets must have been encoded by the same encoders.
"""

import sys

import numpy as np
from tqdm import tqdm

from jaxretrieval.feature_sets.captions import Captions
from jaxretrieval.feature_sets.feature_set import FeatureSetInfo, Split


def first_images(split: Split, images: int) -> Split:
  """Returns the first `images` images with their captions; 0 returns all.

  Raises:
    ValueError: `images` is negative or above the number of images.
  """
  if not 0 <= images <= len(split.images):
    raise ValueError(
      f'config.data.train_images={images} must be from 0 (all) to '
      f'{len(split.images)}, the number of training images'
    )
  return split if images == 0 else select_images(split, np.arange(images))


def check_same_encoders(
  train: FeatureSetInfo, evaluation: FeatureSetInfo
) -> None:
  """Raises ValueError if two sets were encoded by different encoders."""
  for field in train.encoders._fields:
    one, other = (getattr(i.encoders, field) for i in (train, evaluation))
    if one != other:
      raise ValueError(
        f'the {field} features of {train.name} (training) are from {one!r}, '
        f'those of {evaluation.name} (evaluation) from {other!r}: distances '
        'between them are meaningless. Extract both sets with one encoder'
      )


def shared_image_ids(
  train: Split,
  train_info: FeatureSetInfo,
  evaluation: Split,
  evaluation_info: FeatureSetInfo,
) -> np.ndarray:
  """Returns the ids of the images in both splits, int64, ascending.

  Ids are comparable within one namespace only; for two namespaces the result is
  empty.
  """
  if train_info.namespace != evaluation_info.namespace:
    return np.empty(0, np.int64)
  return np.intersect1d(train.captions.image_ids, evaluation.captions.image_ids)


def drop_overlap(
  train: Split,
  train_info: FeatureSetInfo,
  evaluation: Split,
  evaluation_info: FeatureSetInfo,
  *,
  on_overlap: str,
) -> Split:
  """Returns a training split without the images of an evaluation split.

  Args:
    train: the training split.
    train_info: info of its feature set.
    evaluation: the evaluation split.
    evaluation_info: info of its feature set.
    on_overlap: `config.data.on_overlap`: 'drop' removes shared images from
      training, with a warning on stderr; 'refuse' raises an error.

  Raises:
    ValueError: on_overlap='refuse' and images are shared, no image would be
      left, or `on_overlap` has another value.
  """
  if on_overlap not in ('refuse', 'drop'):
    raise ValueError(
      f"config.data.on_overlap={on_overlap!r} must be 'refuse' or 'drop'"
    )
  if train_info.namespace != evaluation_info.namespace:
    tqdm.write(
      f'the image ids of {train_info.name} are of namespace '
      f'{train_info.namespace!r}, those of {evaluation_info.name} of '
      f'{evaluation_info.namespace!r}: shared images cannot be detected',
      file=sys.stderr,
    )
  shared = shared_image_ids(train, train_info, evaluation, evaluation_info)
  if not shared.size:
    return train
  keep = np.flatnonzero(~np.isin(train.captions.image_ids, shared))
  first = ', '.join(str(i) for i in shared[:5])
  finding = (
    f'{shared.size} of {len(train.images)} training images of '
    f'{train_info.name} are in the evaluation split of {evaluation_info.name}: '
    f'{train_info.namespace} ids {first}{", ..." if shared.size > 5 else ""}'
  )
  if on_overlap == 'refuse':
    raise ValueError(
      f'{finding}. Set --config.data.on_overlap=drop to drop them from training'
    )
  if not keep.size:
    raise ValueError(f'{finding}. No training image would be left')
  tqdm.write(f'{finding}. They are dropped from training', file=sys.stderr)
  return select_images(train, keep)


def select_images(split: Split, rows: np.ndarray) -> Split:
  """Returns the images at `rows` (ascending) with their captions."""
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
