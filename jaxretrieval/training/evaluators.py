"""Evaluators: text-image retrieval on a split, per language, both directions.

Queries are sharded over devices; each device has all candidates. Results are
bitwise equal for any number of devices: captions are encoded in batches of one
size, because a product of fewer rows may round differently, and ranks do not
depend on the sharding.
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

_SHARDED, _REPLICATED = PartitionSpec('data'), PartitionSpec()
_BATCH_SIZE = 256  # captions per forward pass of the head


def make_evaluator(
  model: text_head.TextHead, split: Split, languages: Sequence[str], mesh: Mesh
) -> Evaluate:
  """Returns an evaluator of a head on one split.

  Args:
    model: the head.
    split: its images are the candidates, the same for all languages.
    languages: languages of the queries.
    mesh: the devices of the parameters; queries are sharded over them.

  Returns:
    `evaluate(params, constants)`, which dispatches the work and returns a
    function that waits for the metrics: those of `statistics` per language,
    such as `en/recall@10`. With several languages, `mean_not_en/recall@10` is
    the mean over those other than English.
  """
  rows = {name: caption_rows(split, name) for name in languages}
  images = jax.device_put(split.images, NamedSharding(mesh, _REPLICATED))
  texts = {
    name: _put_batches(split.texts[index], mesh) for name, index in rows.items()
  }
  encode = _make_encode(model, mesh)
  prepare_images = jax.jit(text_head.prepare_images)

  def evaluate(params: Any, constants: Any) -> Callable[[], dict[str, float]]:
    candidates = prepare_images(images, constants)
    dispatched = {}
    for name, index in rows.items():
      queries = encode(params, constants, texts[name], len(index))
      dispatched[name] = _dispatch_ranks(
        queries, candidates, split.captions.image_index[index], mesh
      )

    def wait() -> dict[str, float]:
      metrics = {
        f'{name}/{metric}': value
        for name, ranks in dispatched.items()
        for metric, value in statistics(*ranks()).items()
      }
      return metrics | dict(_mean_not_english(metrics, languages))

    return wait

  return evaluate


def _put_batches(texts: np.ndarray, mesh: Mesh) -> jax.Array:
  """Returns zero-padded batches `[K, R, Dt]`, sharded over the devices."""
  size = min(_BATCH_SIZE, len(texts))
  texts = np.pad(texts, ((0, -len(texts) % (size * mesh.size)), (0, 0)))
  batches = texts.reshape(-1, size, texts.shape[1])
  return jax.device_put(batches, NamedSharding(mesh, _SHARDED))


def _make_encode(model: text_head.TextHead, mesh: Mesh) -> Callable[..., Any]:
  """Returns `encode(params, constants, batches, M) -> [M, D]`, replicated."""

  def encode(params: Any, constants: Any, batches: Any) -> Any:
    def encode_batch(texts: Any) -> Any:
      inputs = text_head.prepare_texts(texts, constants)
      return model.apply({'params': params}, inputs, train=False)

    return jax.lax.map(encode_batch, batches)

  encode_shards = jax.shard_map(
    encode,
    mesh=mesh,
    in_specs=(_REPLICATED, _REPLICATED, _SHARDED),
    out_specs=_SHARDED,
  )
  replicated = NamedSharding(mesh, _REPLICATED)

  @partial(jax.jit, static_argnums=3, out_shardings=replicated)
  def encode_all(params: Any, constants: Any, batches: Any, count: int) -> Any:
    encoded = encode_shards(params, constants, batches)
    return encoded.reshape(-1, encoded.shape[-1])[:count]

  return encode_all


def caption_rows(split: Split, language: str) -> np.ndarray:
  """Returns the rows of the captions in one language, ordered by image.

  Raises:
    ValueError: there are none; lists the languages of the split.
  """
  known = np.asarray(split.captions.languages)
  rows = np.flatnonzero(known == language)
  if not rows.size:
    raise ValueError(
      f'language {language!r} has no captions: the split has captions in '
      f'{", ".join(sorted(set(known)))}'
    )
  return rows[np.argsort(split.captions.image_index[rows], kind='stable')]


def both_ranks(
  queries: jax.Array, candidates: jax.Array, image_index: np.ndarray
) -> Ranks:
  """Returns ranks of text to image and of image to text, see `recall.ranks`.

  Args:
    queries: texts `[M, D]`.
    candidates: all images `[N, D]`.
    image_index: `[M]`, the image of each text, in ascending order.

  Returns:
    For each text the rank of its image among the N images: `[G, K]` if each of
    the G images with texts has K of them, else `[M]`. For each of these G
    images the rank of its nearest text among the M texts.
  """
  return _dispatch_ranks(queries, candidates, image_index)()


def _dispatch_ranks(
  queries: jax.Array,
  candidates: jax.Array,
  image_index: np.ndarray,
  mesh: Mesh | None = None,
) -> Callable[[], Ranks]:
  image_index = image_index.astype(np.int32)
  ids = np.arange(len(candidates), dtype=np.int32)
  own, counts = np.unique(image_index, return_counts=True)
  ranks = recall.ranks
  if mesh is not None and mesh.size > 1:
    ranks = partial(_shard_ranks, mesh)
  to_image = ranks(queries, candidates, image_index, ids)
  to_text = ranks(_take(candidates, own), queries, own, image_index)

  def wait() -> Ranks:
    image_ranks = np.asarray(to_image)
    if (counts == counts[0]).all():
      image_ranks = image_ranks.reshape(len(own), counts[0])
    return image_ranks, np.asarray(to_text)

  return wait


@jax.jit
def _take(rows: jax.Array, index: jax.Array) -> jax.Array:
  return rows[index]


@partial(jax.jit, static_argnums=0)
def _shard_ranks(mesh, queries, candidates, query_ids, candidate_ids):
  """Returns `recall.ranks`, with the queries sharded over the devices."""
  count = len(queries)
  padding = (0, -count % mesh.size)
  ranks = jax.shard_map(
    recall.ranks,
    mesh=mesh,
    in_specs=(_SHARDED, _REPLICATED, _SHARDED, _REPLICATED),
    out_specs=_SHARDED,
  )(
    jnp.pad(queries, (padding, (0, 0))),
    candidates,
    jnp.pad(query_ids, padding),
    candidate_ids,
  )
  return jax.lax.with_sharding_constraint(
    ranks[:count], NamedSharding(mesh, _REPLICATED)
  )


def statistics(to_image: np.ndarray, to_text: np.ndarray) -> dict[str, float]:
  """Returns the metrics of one language.

  Returns:
    For text to image `recall@1`, `recall@5`, `recall@10`, the 95 % interval of
    the latter as `recall@10_low` and `recall@10_high`, and `median_rank`; for
    image to text `text_recall@10`.
  """
  values = recall.summary(to_image)
  del values['mrr']
  return values | {'text_recall@10': float(recall.recall_at(to_text, 10))}


def _mean_not_english(
  metrics: Mapping[str, float], languages: Sequence[str]
) -> Iterator[tuple[str, float]]:
  others = [name for name in languages if name != 'en']
  if len(languages) > 1 and others:
    for k in (1, 5, 10):
      values = [metrics[f'{name}/recall@{k}'] for name in others]
      yield f'mean_not_en/recall@{k}', float(np.mean(values))
