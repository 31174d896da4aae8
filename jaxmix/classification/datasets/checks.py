"""Checks of examples before training: dtypes, shapes, labels and classes."""

from typing import Any

import numpy as np


def check_features(
  name: Any,
  features: Any,
  shape: tuple[int | None, ...],
  num_classes: int,
  *,
  feature: str = 'image',
  dtype: str = 'uint8',
) -> None:
  """Checks the features that a TFDS data set declares.

  Args:
    name: of the data set, for messages.
    features: `builder.info.features`.
    shape: of an example; None for any size.
    num_classes: of the network.
    feature: name of an example's data, beside its label.
    dtype: of an example.

  Raises:
    ValueError: names the feature, its value and what is expected.
  """
  missing = {feature, 'label'} - set(features)
  if missing:
    raise ValueError(
      f'{name} has the features {sorted(features)}: expected {feature!r} and '
      "'label'"
    )
  value, label = features[feature], features['label']
  if tuple(value.shape) != shape or value.np_dtype != np.dtype(dtype):
    axes = ' (height, width, channels)' if feature == 'image' else ''
    raise ValueError(
      f'{name}: {feature!r} is {np.dtype(value.np_dtype)} '
      f'{list(value.shape)}, expected {dtype} {list(shape)}{axes}'
    )
  if label.shape != () or not np.issubdtype(label.np_dtype, np.integer):
    raise ValueError(
      f"{name}: 'label' is {np.dtype(label.np_dtype)} {list(label.shape)}, "
      'expected one integer'
    )
  classes = getattr(label, 'num_classes', None)
  if classes not in (None, num_classes):
    raise ValueError(
      f"{name}: 'label' has {classes} classes, but the network has "
      f'{num_classes}'
    )


def check_label(label: int, num_classes: int) -> None:
  """Raises ValueError for a label outside of 0..num_classes-1."""
  if not 0 <= label < num_classes:
    raise ValueError(f'label {label} is not one of 0..{num_classes - 1}')


def check_labels(
  name: Any,
  labels: np.ndarray,
  num_classes: int,
  each: int | None = None,
) -> None:
  """Checks the labels of a split.

  Args:
    name: of the split, for messages.
    labels: `[N]`.
    num_classes: of the network.
    each: number of examples of each class; None for any number above 0.

  Raises:
    ValueError: names the first wrong label or class.
  """
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f'{name}: labels are {labels.dtype}, expected integers')
  wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
  if wrong.size:
    raise ValueError(
      f'{name}: label {labels[wrong[0]]} of example {wrong[0]} is not one of '
      f'0..{num_classes - 1} ({wrong.size} such labels)'
    )
  counts = np.bincount(labels, minlength=num_classes)
  wrong = np.flatnonzero(counts != each if each else counts == 0)
  if wrong.size:
    raise ValueError(
      f'{name}: class {wrong[0]} has {counts[wrong[0]]} examples, expected '
      f'{each or "1 or more"} of each of the {num_classes} classes'
    )
