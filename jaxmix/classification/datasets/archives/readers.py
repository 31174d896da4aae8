"""Data sets as their publishers give them, by the module that reads each."""

import os
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from jaxmix.classification.datasets.archives import (
  cifar,
  fsdd,
  speech_commands,
  tiny_imagenet,
)


class Layout(Protocol):
  """What is known of a data set before it is read.

  A module's own may hold more, for itself.
  """

  @property
  def name(self) -> str:
    """Of the data set."""
    ...

  @property
  def url(self) -> str:
    """Of the publisher's archive."""
    ...

  @property
  def checksum(self) -> str:
    """Of the archive as published, `'md5:...'` or `'sha256:...'`, if at all."""
    ...

  @property
  def variable(self) -> str:
    """Name of the environment variable that may hold the path of the source."""
    ...

  @property
  def store(self) -> str:
    """The folder that prepared sets of this kind go to, `'jaxmix_...'`."""
    ...

  @property
  def feature(self) -> str:
    """What an example is beside its label, `'image'` or `'audio'`."""
    ...

  @property
  def shape(self) -> tuple[int, ...]:
    """Of that."""
    ...

  @property
  def dtype(self) -> str:
    """Of that."""
    ...

  @property
  def classes(self) -> int:
    """Labels are 0..classes-1."""
    ...

  @property
  def per_class(self) -> Mapping[str, int] | None:
    """Split to examples of each class; None if classes differ in that."""
    ...

  def examples(self, split: str) -> int:
    """Number of examples of a split."""
    ...


class Reader(Protocol):
  """A module that reads data sets."""

  @property
  def LAYOUTS(self) -> Mapping[str, Layout]:
    """By the names of the data sets."""
    ...

  def read_source(
    self, layout: Any, source: str | os.PathLike[str]
  ) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
    """Reads an archive or a folder, and checks it.

    Returns:
      The arrays of each split, and the sha256 of each file by its name.
    """
    ...

  def source_sha256(
    self, layout: Any, source: str | os.PathLike[str]
  ) -> dict[str, str]:
    """Those sums alone."""
    ...


READERS: dict[str, Reader] = {
  'cifar10': cifar,
  'cifar100': cifar,
  'fsdd': fsdd,
  'fsdd_speakers': fsdd,
  'speech_commands_v1': speech_commands,
  'speech_commands_v2': speech_commands,
  'tiny_imagenet': tiny_imagenet,
}


def layout(name: str) -> Layout:
  """The layout of a data set by its name."""
  return READERS[name].LAYOUTS[name]
