"""Encoding of images and captions, shard by shard."""

import collections
import concurrent.futures
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxretrieval.extract import extraction_plan, images
from jaxretrieval.extract.encoders import Encoder
from jaxretrieval.extract.processes import SINGLE, Process


def encode(
  plan: extraction_plan.ExtractionPlan,
  image_encoder: Encoder,
  text_encoder: Encoder,
  folder: pathlib.Path,
  *,
  batch_size: int = 32,
  workers: int = 4,
  process: Process = SINGLE,
) -> None:
  """Encodes the shards of this process that are missing.

  The features of a shard depend on the plan, on `batch_size` and, by rounding,
  on the machine. An extraction that is resumed gives the same bits as one that
  was never stopped.

  Args:
    plan: the images and captions to encode.
    image_encoder: the image encoder of the plan.
    text_encoder: the text encoder of the plan.
    folder: folder of the encoded shards.
    batch_size: images, and captions, per forward pass.
    workers: threads that read and decode images.
    process: this process among those that share the work.

  Raises:
    ValueError: `folder` has shards of another plan, or the features of a
      caption are not finite.
    OSError: a file cannot be read.
  """
  plan_fingerprint = extraction_plan.start(plan, folder)
  mine = process.share(extraction_plan.shards(plan, folder))
  todo = [
    shard
    for shard in mine
    if extraction_plan.load(shard.path, plan_fingerprint) is None
  ]
  total = sum(shard.stop - shard.start for shard in mine)
  left = sum(shard.stop - shard.start for shard in todo)
  with (
    concurrent.futures.ThreadPoolExecutor(workers) as pool,
    tqdm(desc='extract', unit=' images', total=total) as bar,
  ):
    bar.update(total - left)
    for shard in todo:
      files = plan.files[shard.split][shard.start : shard.stop]
      features, bad = encode_images(image_encoder, files, batch_size, pool, bar)
      captions = plan.captions[shard.split].texts
      rows = extraction_plan.caption_rows(plan, shard)
      texts = _encode_texts(
        text_encoder, [captions[row] for row in rows], batch_size
      )
      encoded = extraction_plan.EncodedShard(
        features,
        texts,
        np.array([shard.start + row for row in bad], np.int32),
        np.array(list(bad.values()), np.str_),
      )
      extraction_plan.save(shard.path, plan_fingerprint, encoded)


def encode_images(
  encoder: Encoder,
  files: Sequence[images.File | None],
  batch_size: int,
  pool: concurrent.futures.Executor,
  bar: tqdm,
) -> tuple[np.ndarray, dict[int, str]]:
  """Reads, decodes and encodes images.

  Args:
    encoder: an image encoder.
    files: files of n images; None for a missing one.
    batch_size: images per forward pass; twice as many are decoded ahead.
    pool: executor whose threads read and decode.
    bar: progress bar, updated for each image.

  Returns:
    Features float16 [n, D], zero for bad images; and the reason why an image is
    bad, by row.

  Raises:
    OSError: a file cannot be read.
  """
  count = len(files)
  out = np.zeros((count, encoder.dim), np.float16)
  bad: dict[int, str] = {}
  batch: list[Any] = []
  rows: list[int] = []
  decoded = _map_ahead(pool, _try_read, files, 2 * batch_size)
  for row, image in enumerate(decoded):
    if isinstance(image, str):
      bad[row] = image
    else:
      batch.append(image)
      rows.append(row)
    if batch and (len(batch) == batch_size or row == count - 1):
      out[rows] = _to_float16(encoder.encode(batch))
      for i in rows:
        if not np.isfinite(out[i]).all():
          bad[i] = 'its features are not finite, or exceed 65504'
          out[i] = 0
      batch, rows = [], []
    bar.update()
  return out, dict(sorted(bad.items()))


def _encode_texts(
  encoder: Encoder, texts: Sequence[str], batch_size: int
) -> np.ndarray:
  out = np.zeros((len(texts), encoder.dim), np.float16)
  for start in range(0, len(texts), batch_size):
    batch = texts[start : start + batch_size]
    out[start : start + len(batch)] = _to_float16(encoder.encode(batch))
  for text, features in zip(texts, out, strict=True):
    if not np.isfinite(features).all():
      raise ValueError(
        f'the features of the caption {text!r} are not finite, or exceed '
        f'65504: choose another text encoder than {encoder.id}'
      )
  return out


def _to_float16(features: np.ndarray) -> np.ndarray:
  with np.errstate(over='ignore'):  # callers report it with the name
    return features.astype(np.float16)


def _try_read(file: images.File | None) -> Any:
  """Returns the image, or the reason why it cannot be read."""
  if file is None:
    return 'the file is missing'
  try:
    return images.read_image(file)
  except ValueError as error:
    return ' '.join(str(error).split())


def _map_ahead(
  pool: concurrent.futures.Executor,
  function: Callable[[Any], Any],
  items: Iterable[Any],
  ahead: int,
) -> Iterator[Any]:
  """Maps a function in threads; yields in order, at most `ahead` buffered."""
  queue: collections.deque[concurrent.futures.Future] = collections.deque()
  for item in items:
    queue.append(pool.submit(function, item))
    if len(queue) > ahead:
      yield queue.popleft().result()
  while queue:
    yield queue.popleft().result()
