"""What examples must be to be trained on: dtypes, shapes, labels, classes."""

from typing import Any

import numpy as np


def check_features(
  place: Any,
  features: Any,
  shape: tuple[int | None, ...],
  num_classes: int,
  *,
  feature: str = 'image',
  dtype: str = 'uint8',
) -> None:
  """Checks how a TFDS data set describes its examples.

  Args:
    place: of the set, for messages.
    features: `builder.info.features`.
    shape: of an example; None for any size.
    num_classes: of the network.
    feature: what an example is beside its label.
    dtype: of an example.

  Raises:
    ValueError: names the feature, what it is and what it must be.
  """
  missing = {feature, 'label'} - set(features)
  if missing:
    raise ValueError(
      f'{place} has the features {sorted(features)}: expected {feature!r} and '
      "'label'"
    )
  value, label = features[feature], features['label']
  if tuple(value.shape) != shape or value.np_dtype != np.dtype(dtype):
    axes = ' (height, width, channels)' if feature == 'image' else ''
    raise ValueError(
      f'{place}: {feature!r} is {np.dtype(value.np_dtype)} '
      f'{list(value.shape)}, expected {dtype} {list(shape)}{axes}'
    )
  if label.shape != () or not np.issubdtype(label.np_dtype, np.integer):
    raise ValueError(
      f"{place}: 'label' is {np.dtype(label.np_dtype)} {list(label.shape)}, "
      'expected one integer'
    )
  classes = getattr(label, 'num_classes', None)
  if classes not in (None, num_classes):
    raise ValueError(
      f"{place}: 'label' has {classes} classes, the network has {num_classes}"
    )


def check_label(label: int, num_classes: int) -> None:
  """Raises ValueError for a label that is no class."""
  if not 0 <= label < num_classes:
    raise ValueError(f'label {label} is not one of 0..{num_classes - 1}')


def check_arrays(
  place: Any,
  arrays: dict[str, np.ndarray],
  shape: tuple[int, ...],
  num_classes: int,
  *,
  feature: str = 'image',
  dtype: str = 'uint8',
) -> None:
  """Checks a whole split in memory.

  Args:
    place: of the split, for messages.
    arrays: `feature` `[N, ...]` and `label` integers `[N]`.
    shape: of an example.
    num_classes: of the network.
    feature: what an example is beside its label.
    dtype: of an example.

  Raises:
    ValueError: a dtype or shape is another one, a label is no class, or a class
      has no example; names what and where.
  """
  values, labels = arrays[feature], arrays['label']
  if values.dtype != np.dtype(dtype) or values.shape[1:] != shape:
    raise ValueError(
      f'{place}: {feature!r} is {values.dtype} {list(values.shape)}, expected '
      f'{dtype} [N, {", ".join(map(str, shape))}]'
    )
  if labels.shape != values.shape[:1]:
    raise ValueError(
      f"{place}: 'label' has shape {list(labels.shape)} for {len(values)} "
      'examples'
    )
  check_labels(place, labels, num_classes)


def check_labels(
  place: Any,
  labels: np.ndarray,
  num_classes: int,
  each: int | None = None,
) -> None:
  """Checks the labels of a whole split.

  Args:
    place: of the split, for messages.
    labels: `[N]`.
    num_classes: of the network.
    each: examples of each class; None for any number but 0.

  Raises:
    ValueError: names the first label or class that is not as it must be.
  """
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f'{place}: labels are {labels.dtype}, expected integers')
  wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
  if wrong.size:
    raise ValueError(
      f'{place}: label {labels[wrong[0]]} of example {wrong[0]} is not one of '
      f'0..{num_classes - 1} ({wrong.size} such labels)'
    )
  counts = np.bincount(labels, minlength=num_classes)
  wrong = np.flatnonzero(counts != each if each else counts == 0)
  if wrong.size:
    raise ValueError(
      f'{place}: class {wrong[0]} has {counts[wrong[0]]} examples, expected '
      f'{each or "1 or more"} of each of the {num_classes} classes'
    )
