"""Retrieval on a split, language by language, both ways."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxretrieval import models, recall
from jaxretrieval.features import Split

Ranks = tuple[np.ndarray, np.ndarray]
Evaluate = Callable[[Any, Any], Callable[[], dict[str, float]]]


def make(
  model: models.TextHead, split: Split, languages: Sequence[str]
) -> Evaluate:
  """Makes an evaluator of a head on one split.

  Args:
    model: the head.
    split: its images are the gallery, for all languages the same.
    languages: whose captions are the queries.

  Returns:
    `evaluate(params, constants)`, which gives the device its work and returns a
    function that waits for the results: for each language what `statistics`
    gives, as `en/recall@10`; with several, `mean_not_en/recall@10` is the mean
    over those that are not English.
  """
  rows = {name: caption_rows(split, name) for name in languages}
  images = jax.device_put(split.images)
  texts = {name: jax.device_put(split.texts[rows[name]]) for name in rows}

  @jax.jit
  def encode(params: Any, constants: Any, texts: Any) -> Any:
    inputs = models.prepare_texts(texts, constants)
    return model.apply({'params': params}, inputs, train=False)

  prepare_images = jax.jit(models.prepare_images)

  def evaluate(params: Any, constants: Any) -> Callable[[], dict[str, float]]:
    gallery = prepare_images(images, constants)
    begun = {}
    for name, index in rows.items():
      queries = encode(params, constants, texts[name])
      begun[name] = _begin_ranks(
        queries, gallery, split.captions.image_index[index]
      )

    def finish() -> dict[str, float]:
      results = {
        f'{name}/{metric}': value
        for name, ranks in begun.items()
        for metric, value in statistics(*ranks()).items()
      }
      return results | dict(_mean_not_english(results, languages))

    return finish

  return evaluate


def caption_rows(split: Split, language: str) -> np.ndarray:
  """The captions of a split in one language, ordered by image: int `[M]`.

  Raises:
    ValueError: there are none; lists what there is.
  """
  known = np.asarray(split.captions.languages)
  rows = np.flatnonzero(known == language)
  if not rows.size:
    raise ValueError(
      f'no captions in {language!r}: the split has {sorted(set(known))}'
    )
  return rows[np.argsort(split.captions.image_index[rows], kind='stable')]


def both_ranks(
  queries: jax.Array, gallery: jax.Array, image_index: np.ndarray
) -> Ranks:
  """Ranks of text to image and of image to text, see `recall.ranks`.

  Args:
    queries: texts `[M, D]`.
    gallery: all images `[N, D]`.
    image_index: `[M]`, the image of each text, in ascending order.

  Returns:
    Ranks of the M texts among the N images (`[G, K]` if all G images have the
    same number K of texts, else `[M]`), and of the G images that have a text
    among the M texts.
  """
  return _begin_ranks(queries, gallery, image_index)()


def _begin_ranks(
  queries: jax.Array, gallery: jax.Array, image_index: np.ndarray
) -> Callable[[], Ranks]:
  ids = np.arange(len(gallery), dtype=np.int32)
  to_image = recall.ranks(queries, gallery, image_index, ids)
  own, counts = np.unique(image_index, return_counts=True)
  if (counts == counts[0]).all():
    to_image = to_image.reshape(len(own), counts[0])
  to_text = recall.ranks(gallery[own], queries, own, image_index)
  return lambda: (np.asarray(to_image), np.asarray(to_text))


def statistics(to_image: np.ndarray, to_text: np.ndarray) -> dict[str, float]:
  """What is told of the ranks of one language.

  Returns:
    Of text to image `recall@1`, `@5` and `@10`, the bounds of the last one's
    95 % interval as `recall@10_low` and `_high`, and `median_rank`; of image to
    text `text_recall@10`.
  """
  values = recall.summary(to_image)
  del values['mrr']
  return values | {'text_recall@10': float(recall.recall_at(to_text, 10))}


def _mean_not_english(
  results: Mapping[str, float], languages: Sequence[str]
) -> Iterator[tuple[str, float]]:
  others = [name for name in languages if name != 'en']
  if len(languages) > 1 and others:
    for k in (1, 5, 10):
      values = [results[f'{name}/recall@{k}'] for name in others]
      yield f'mean_not_en/recall@{k}', float(np.mean(values))
