"""Readers of published data sets: one module for each publisher's format."""

import pathlib
from typing import Protocol

import numpy as np

from jaxmix.classification.datasets.archives import (
  cifar,
  fsdd,
  speech_commands,
  tiny_imagenet,
)
from jaxmix.classification.datasets.specs import DatasetSpec


class Reader(Protocol):
  """A module that reads data sets as their publisher packs them."""

  def read_source(
    self, spec: DatasetSpec, source: pathlib.Path
  ) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
    """Reads and checks an archive or a folder.

    Returns:
      The arrays of each split, and the fingerprints (sha256) of what was read.
    """
    ...

  def source_fingerprints(
    self, spec: DatasetSpec, source: pathlib.Path
  ) -> dict[str, str]:
    """Returns the fingerprints alone."""
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
