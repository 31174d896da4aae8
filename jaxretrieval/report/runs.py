"""Heads that are reported on: what they find, and whether that is a test."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxretrieval.feature_sets import feature_set, locate
from jaxretrieval.report.tables import Ranks
from jaxretrieval.training import evaluators, training_set


class Run(NamedTuple):
  """An exported head on one split.

  Attributes:
    name: of the run.
    head: with `encode` and `scale`, see `trained.Head`.
    results: by language.
  """

  name: str
  head: Any
  results: dict[str, Ranks]


def evaluate(
  head: Any, split: feature_set.Split, languages: Sequence[str]
) -> dict[str, Ranks]:
  """Ranks of a head in each language, both ways.

  Raises:
    ValueError: the head is for features of other dims.
  """
  images = jnp.asarray(split.images, jnp.float32) / head.scale
  results = {}
  for language in tqdm(languages, 'ranks', delay=5):
    rows = evaluators.caption_rows(split, language)
    texts = jnp.asarray(head.encode(split.texts[rows]))
    if texts.shape[1] != images.shape[1]:
      raise ValueError(
        f'the head was trained for images of {texts.shape[1]} features, the '
        f'feature set has {images.shape[1]}'
      )
    index = split.captions.image_index[rows]
    ranks = evaluators.both_ranks(texts, images, index)
    image_ids = split.captions.image_ids[np.unique(index)]
    results[language] = Ranks(*ranks, image_ids)
  return results


def check_training(
  config: Mapping[str, Any], info: feature_set.Info, split: feature_set.Split
) -> str:
  """Compares what is evaluated with what was trained on.

  Returns:
    What a report must say of it.
  """
  wanted = config['data']
  try:
    folder = locate.find(wanted)
    train_info = feature_set.read_info(folder)
    train = _read(folder, wanted['split'])
  except FileNotFoundError as error:
    return (
      f'Trained on {wanted["name"]} {wanted["split"]}, which is not here: '
      f'not checked that no image of this split is in it ({error}).'
    )
  shared = training_set.overlap(train, train_info, split, info)
  languages = ', '.join(wanted['languages']) or 'all languages'
  trained = f'Trained on {train_info.name} {wanted["split"]} ({languages}).'
  if shared.size:
    return (
      f'{trained} **It has {shared.size:,} of these {len(split.images):,} '
      f'images**, {info.namespace} id {shared[0]} for one: unless they were '
      'dropped from training, this is no test.'
    )
  if train_info.namespace != info.namespace:
    return (
      f'{trained} Whether it has images of this split cannot be seen: its ids '
      f'count in {train_info.namespace!r}, these in {info.namespace!r}.'
    )
  return f'{trained} It has no image of this split.'


# Two runs have mostly one training set.
_read = functools.lru_cache(maxsize=1)(feature_set.read)
