"""Encodes the shards of a plan that are not done yet."""

import collections
import concurrent.futures
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxretrieval.extract import extraction_plan, images
from jaxretrieval.extract.encoders import Encoder
from jaxretrieval.extract.processes import ALONE, Process


def encode(
  plan: extraction_plan.Plan,
  image_encoder: Encoder,
  text_encoder: Encoder,
  folder: pathlib.Path,
  *,
  batch_size: int = 32,
  workers: int = 4,
  process: Process = ALONE,
) -> None:
  """Encodes the shards of this process that are not done yet.

  A shard's features depend on the plan, on `batch_size` and on the machine
  (by rounding errors), not on what was done before: one that goes on gives the
  bits of one that was never stopped.

  Args:
    plan: what to encode; its encoders are these.
    image_encoder: of PIL images.
    text_encoder: of captions.
    folder: of the parts.
    batch_size: pictures encoded at once, and captions.
    workers: threads that read and decode pictures.
    process: which of those that share the work this is.

  Raises:
    ValueError: `folder` has parts of another plan, or a caption's features are
      not finite.
    OSError: a file cannot be read.
  """
  digest = extraction_plan.start(plan, folder)
  mine = process.share(extraction_plan.shards(plan, folder))
  todo = [s for s in mine if extraction_plan.load(s.path, digest) is None]
  total = sum(shard.stop - shard.start for shard in mine)
  left = sum(shard.stop - shard.start for shard in todo)
  with (
    concurrent.futures.ThreadPoolExecutor(workers) as pool,
    tqdm(desc='extract', unit=' images', total=total) as bar,
  ):
    bar.update(total - left)
    for shard in todo:
      files = plan.files[shard.split][shard.start : shard.stop]
      pictures, bad = encode_images(image_encoder, files, batch_size, pool, bar)
      said = plan.captions[shard.split]
      rows = extraction_plan.caption_rows(plan, shard)
      texts = _encode_texts(
        text_encoder, [said.texts[row] for row in rows], batch_size
      )
      part = extraction_plan.Part(
        pictures,
        texts,
        np.array([shard.start + row for row in bad], np.int32),
        np.array(list(bad.values()), np.str_),
      )
      extraction_plan.save(shard.path, digest, part)


def encode_images(
  encoder: Encoder,
  files: Sequence[images.File | None],
  batch_size: int,
  pool: concurrent.futures.Executor,
  bar: tqdm,
) -> tuple[np.ndarray, dict[int, str]]:
  """Reads, decodes and encodes pictures.

  Args:
    encoder: of PIL images.
    files: of n pictures; None where there is none.
    batch_size: pictures encoded at once; twice as many are decoded ahead.
    pool: whose threads read and decode.
    bar: told of each picture.

  Returns:
    Features float16 [n, D], zero for bad pictures; and by row, why.

  Raises:
    OSError: a file cannot be read.
  """
  count = len(files)
  out = np.zeros((count, encoder.dim), np.float16)
  bad: dict[int, str] = {}
  batch: list[Any] = []
  rows: list[int] = []
  decoded = _ahead(pool, _try_read, files, 2 * batch_size)
  for row, picture in enumerate(decoded):
    if isinstance(picture, str):
      bad[row] = picture
    else:
      batch.append(picture)
      rows.append(row)
    if batch and (len(batch) == batch_size or row == count - 1):
      out[rows] = _half(encoder.encode(batch))
      for i in rows:
        if not np.isfinite(out[i]).all():
          bad[i] = 'its features are not finite, or above 65504'
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
    out[start : start + len(batch)] = _half(encoder.encode(batch))
  for text, features in zip(texts, out, strict=True):
    if not np.isfinite(features).all():
      raise ValueError(
        f'the features of the caption {text!r} are not finite, or above 65504: '
        f'{encoder.id} cannot be used'
      )
  return out


def _half(found: np.ndarray) -> np.ndarray:
  with np.errstate(over='ignore'):  # told by name where it matters
    return found.astype(np.float16)


def _try_read(file: images.File | None) -> Any:
  """The picture, or why there is none."""
  if file is None:
    return 'there is no such file'
  try:
    return images.read_image(file)
  except ValueError as error:
    return ' '.join(str(error).split())


def _ahead(
  pool: concurrent.futures.Executor,
  function: Callable[[Any], Any],
  items: Iterable[Any],
  ahead: int,
) -> Iterator[Any]:
  """Results in order; no more than `ahead` of them are in memory."""
  queue: collections.deque[concurrent.futures.Future] = collections.deque()
  for item in items:
    queue.append(pool.submit(function, item))
    if len(queue) > ahead:
      yield queue.popleft().result()
  while queue:
    yield queue.popleft().result()
