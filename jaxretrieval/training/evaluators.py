"""Retrieval on a split, language by language, both ways.

Devices share the queries, and each has the whole gallery. What they find is to
the bit what one finds: captions are encoded in blocks of one size, as a product
of fewer rows may round otherwise, and ranks do not depend on who counts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxretrieval import recall
from jaxretrieval.feature_sets.feature_set import Split
from jaxretrieval.training import text_head

Ranks = tuple[np.ndarray, np.ndarray]
Evaluate = Callable[[Any, Any], Callable[[], dict[str, float]]]

_SPLIT, _WHOLE = PartitionSpec('data'), PartitionSpec()
_BLOCK = 256  # captions that are encoded at once


def make(
  model: text_head.TextHead, split: Split, languages: Sequence[str], mesh: Mesh
) -> Evaluate:
  """Makes an evaluator of a head on one split.

  Args:
    model: the head.
    split: its images are the gallery, for all languages the same.
    languages: whose captions are the queries.
    mesh: the devices that share the queries, those of the parameters.

  Returns:
    `evaluate(params, constants)`, which gives the device its work and returns a
    function that waits for the results: for each language what `statistics`
    gives, as `en/recall@10`; with several, `mean_not_en/recall@10` is the mean
    over those that are not English.
  """
  rows = {name: caption_rows(split, name) for name in languages}
  images = jax.device_put(split.images, NamedSharding(mesh, _WHOLE))
  texts = {
    name: _put_blocks(split.texts[index], mesh) for name, index in rows.items()
  }
  encode = _make_encode(model, mesh)
  prepare_images = jax.jit(text_head.prepare_images)

  def evaluate(params: Any, constants: Any) -> Callable[[], dict[str, float]]:
    gallery = prepare_images(images, constants)
    begun = {}
    for name, index in rows.items():
      queries = encode(params, constants, texts[name], len(index))
      begun[name] = _begin_ranks(
        queries, gallery, split.captions.image_index[index], mesh
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


def _put_blocks(texts: np.ndarray, mesh: Mesh) -> jax.Array:
  """Splits rows over the devices: `[K, R, Dt]`, filled up with zeros."""
  size = min(_BLOCK, len(texts))
  texts = np.pad(texts, ((0, -len(texts) % (size * mesh.size)), (0, 0)))
  blocks = texts.reshape(-1, size, texts.shape[1])
  return jax.device_put(blocks, NamedSharding(mesh, _SPLIT))


def _make_encode(model: text_head.TextHead, mesh: Mesh) -> Callable[..., Any]:
  """Makes `(params, constants, blocks, M) -> [M, D]`, on every device."""

  def encode(params: Any, constants: Any, blocks: Any) -> Any:
    def encode_block(texts: Any) -> Any:
      inputs = text_head.prepare_texts(texts, constants)
      return model.apply({'params': params}, inputs, train=False)

    return jax.lax.map(encode_block, blocks)

  shared = jax.shard_map(
    encode, mesh=mesh, in_specs=(_WHOLE, _WHOLE, _SPLIT), out_specs=_SPLIT
  )

  @partial(jax.jit, static_argnums=3, out_shardings=NamedSharding(mesh, _WHOLE))
  def encode_all(params: Any, constants: Any, blocks: Any, count: int) -> Any:
    rows = shared(params, constants, blocks)
    return rows.reshape(-1, rows.shape[-1])[:count]

  return encode_all


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
  queries: jax.Array,
  gallery: jax.Array,
  image_index: np.ndarray,
  mesh: Mesh | None = None,
) -> Callable[[], Ranks]:
  image_index = image_index.astype(np.int32)
  ids = np.arange(len(gallery), dtype=np.int32)
  own, counts = np.unique(image_index, return_counts=True)
  ranks = recall.ranks
  if mesh is not None and mesh.size > 1:
    ranks = partial(_share_ranks, mesh)
  to_image = ranks(queries, gallery, image_index, ids)
  to_text = ranks(_take(gallery, own), queries, own, image_index)

  def wait() -> Ranks:
    found = np.asarray(to_image)
    if (counts == counts[0]).all():
      found = found.reshape(len(own), counts[0])
    return found, np.asarray(to_text)

  return wait


@jax.jit
def _take(rows: jax.Array, index: jax.Array) -> jax.Array:
  return rows[index]


@partial(jax.jit, static_argnums=0)
def _share_ranks(mesh, queries, gallery, query_ids, gallery_ids):
  """`recall.ranks`, each device those of its part of the queries."""
  count = len(queries)
  more = (0, -count % mesh.size)
  ranks = jax.shard_map(
    recall.ranks,
    mesh=mesh,
    in_specs=(_SPLIT, _WHOLE, _SPLIT, _WHOLE),
    out_specs=_SPLIT,
  )(
    jnp.pad(queries, (more, (0, 0))),
    gallery,
    jnp.pad(query_ids, more),
    gallery_ids,
  )
  return jax.lax.with_sharding_constraint(
    ranks[:count], NamedSharding(mesh, _WHOLE)
  )


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
