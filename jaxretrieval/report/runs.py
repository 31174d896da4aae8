"""Reported runs: ranks of exported heads, and their overlap with training."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxretrieval.feature_sets import feature_set, locate, overlap
from jaxretrieval.report.tables import Ranks
from jaxretrieval.training import evaluators


class Run(NamedTuple):
  """An exported head on one split.

  Attributes:
    name: name of the run.
    head: an `exported_head.ExportedHead`.
    results: ranks by language.
  """

  name: str
  head: Any
  results: dict[str, Ranks]


def evaluate(
  head: Any, split: feature_set.Split, languages: Sequence[str]
) -> dict[str, Ranks]:
  """Returns the ranks of a head in each language, in both directions.

  Raises:
    ValueError: the head was trained for images of another width.
  """
  images = jnp.asarray(split.images, jnp.float32) / head.scale
  results = {}
  for language in tqdm(languages, 'ranks', delay=5):
    rows = evaluators.caption_rows(split, language)
    texts = jnp.asarray(head.encode(split.texts[rows]))
    if texts.shape[1] != images.shape[1]:
      raise ValueError(
        f'the head was trained for images of {texts.shape[1]} features, but '
        f'the feature set has {images.shape[1]}: give another feature set'
      )
    index = split.captions.image_index[rows]
    ranks = evaluators.both_ranks(texts, images, index)
    image_ids = split.captions.image_ids[np.unique(index)]
    results[language] = Ranks(*ranks, image_ids)
  return results


def check_training(
  config: Mapping[str, Any],
  info: feature_set.FeatureSetInfo,
  split: feature_set.Split,
) -> str:
  """Checks whether a split has images of the training set.

  Returns:
    A note for the report.
  """
  data = config['data']
  try:
    folder = locate.find(data)
    train_info = feature_set.read_info(folder)
    train = _read(folder, data['split'])
  except FileNotFoundError as error:
    return (
      f'Trained on {data["name"]} {data["split"]}, which is missing here: '
      f'overlap with this split was not checked ({error}).'
    )
  shared = overlap.shared_image_ids(train, train_info, split, info)
  languages = ', '.join(data['languages']) or 'all languages'
  trained = f'Trained on {train_info.name} {data["split"]} ({languages}).'
  if shared.size:
    return (
      f'{trained} **It contains {shared.size:,} of these '
      f'{len(split.images):,} images**, e.g. {info.namespace} id {shared[0]}: '
      'unless they were dropped from training, these are not test results.'
    )
  if train_info.namespace != info.namespace:
    return (
      f'{trained} Overlap with this split cannot be detected: its image ids '
      f'are of namespace {train_info.namespace!r}, those of this split of '
      f'{info.namespace!r}.'
    )
  return f'{trained} It contains no image of this split.'


# Two runs usually have the same training set.
_read = functools.lru_cache(maxsize=1)(feature_set.read)
