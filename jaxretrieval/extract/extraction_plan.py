"""Extraction plan: the shards of an extraction, and a file for each done shard.

Files are written atomically, with fingerprints of their content and of the
plan. A killed extraction therefore resumes where it was, and shards of other
encoders, captions or images are never mixed in.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxmix.files import atomic, untrusted
from jaxretrieval.extract.images import File
from jaxretrieval.feature_sets.captions import Captions
from jaxretrieval.feature_sets.feature_set import Encoders, Split


class ExtractionPlan(NamedTuple):
  """Inputs and encoders of an extraction.

  Attributes:
    encoders: ids of the encoders.
    captions: captions by split.
    files: the file of each image by split; None for a missing one.
    shard_size: number of images in a shard.
  """

  encoders: Encoders
  captions: dict[str, Captions]
  files: dict[str, list[File | None]]
  shard_size: int


class CaptionShard(NamedTuple):
  """Images `start` to `stop` of a split, with their captions."""

  split: str
  start: int
  stop: int
  path: pathlib.Path


class EncodedShard(NamedTuple):
  """The features of one shard.

  Attributes:
    images: float16 [n, Di]; zero for bad images.
    texts: float16 [m, Dt], in the order of the captions.
    bad: int32 [b], rows of the split whose image cannot be used.
    reasons: str [b], the reason for each bad image.
  """

  images: np.ndarray
  texts: np.ndarray
  bad: np.ndarray
  reasons: np.ndarray


def shards(plan: ExtractionPlan, folder: pathlib.Path) -> list[CaptionShard]:
  """Returns the shards of a plan, the same in every process."""
  result = []
  for split, captions in plan.captions.items():
    images = len(captions.image_ids)
    starts = range(0, images, plan.shard_size)
    for i, start in enumerate(starts):
      path = folder / f'{split}-{i:05d}-of-{len(starts):05d}.npz'
      stop = min(start + plan.shard_size, images)
      result.append(CaptionShard(split, start, stop, path))
  return result


def caption_rows(plan: ExtractionPlan, shard: CaptionShard) -> np.ndarray:
  """Returns the caption rows of a shard's images, in order."""
  index = plan.captions[shard.split].image_index
  return np.flatnonzero((index >= shard.start) & (index < shard.stop))


def describe(plan: ExtractionPlan) -> dict[str, Any]:
  """Returns a description that is equal only for equal inputs and encoders."""
  return {
    'image encoder': plan.encoders.image,
    'text encoder': plan.encoders.text,
    'shard size': plan.shard_size,
    **{
      f'captions of {split}': _fingerprint(
        captions.image_ids.astype('<i8').tobytes(),
        captions.image_index.astype('<i4').tobytes(),
        json.dumps(
          [captions.image_names, captions.texts, captions.languages]
        ).encode(),
      )
      for split, captions in plan.captions.items()
    },
    # Sizes only: hashing the images would read all of them twice. The key is
    # part of the file format.
    **{
      f'pictures of {split} (their sizes)': _fingerprint(
        json.dumps([file.size if file else None for file in files]).encode()
      )
      for split, files in plan.files.items()
    },
  }


def start(plan: ExtractionPlan, folder: pathlib.Path) -> str:
  """Starts or resumes a plan and returns its fingerprint.

  Raises:
    ValueError: `folder` has shards of another plan; names the differences.
  """
  description = describe(plan)
  path = folder / 'plan.json'
  if not path.exists():
    folder.mkdir(parents=True, exist_ok=True)
    with atomic.open_atomic(path) as file:
      file.write(json.dumps(description, indent=2).encode())
  existing = untrusted.read_json(path)
  differences = [
    key
    for key in sorted(description.keys() | existing.keys())
    if description.get(key) != existing.get(key)
  ]
  if differences:
    raise ValueError(
      f'{folder} belongs to an extraction that differs in: '
      f'{"; ".join(differences)}. Choose another --name, or remove that folder '
      'to start again'
    )
  return _fingerprint(json.dumps(description).encode())


def save(
  path: pathlib.Path, plan_fingerprint: str, encoded: EncodedShard
) -> None:
  """Writes an encoded shard atomically.

  Files are not synced to disk, which can take a second: a file that a power cut
  truncated has another fingerprint, and its shard is encoded again.
  """
  with atomic.open_atomic(path) as file:
    np.savez(
      file,
      allow_pickle=False,
      plan=np.array(plan_fingerprint),
      sha256=np.array(_encoded_fingerprint(encoded)),
      **encoded._asdict(),
    )


def load(path: pathlib.Path, plan_fingerprint: str) -> EncodedShard | None:
  """Reads an encoded shard; returns None if it is missing or damaged.

  Raises:
    ValueError: it belongs to another plan.
  """
  try:
    arrays = untrusted.load_arrays(path)
    encoded = EncodedShard(*(arrays[field] for field in EncodedShard._fields))
    plan, sha256 = str(arrays['plan']), str(arrays['sha256'])
  # It is truncated or overwritten.
  except (FileNotFoundError, ValueError, KeyError):
    return None
  if sha256 != _encoded_fingerprint(encoded):
    return None
  if plan != plan_fingerprint:
    raise ValueError(
      f'{path} belongs to another extraction: remove {path.parent} to start '
      'again'
    )
  return encoded


def gather(
  plan: ExtractionPlan, split: str, folder: pathlib.Path, plan_fingerprint: str
) -> tuple[Split, dict[str, str]]:
  """Returns a split from its encoded shards.

  Returns:
    The split without its bad images, and the reason for each of them by name.

  Raises:
    ValueError: a shard is damaged, or all images are bad.
  """
  captions = plan.captions[split]
  images, bad = [], {}
  texts = np.zeros(0, np.float16)
  for shard in shards(plan, folder):
    if shard.split == split:
      encoded = load(shard.path, plan_fingerprint)
      if encoded is None:
        shard.path.unlink(missing_ok=True)
        raise ValueError(
          f'{shard.path} was damaged and has been removed: run the same '
          'command again'
        )
      images.append(encoded.images)
      if not texts.size:
        shape = len(captions.texts), encoded.texts.shape[1]
        texts = np.zeros(shape, np.float16)
      texts[caption_rows(plan, shard)] = encoded.texts
      reasons = encoded.reasons.tolist()
      bad |= dict(zip(encoded.bad.tolist(), reasons, strict=True))
  good = np.ones(len(captions.image_ids), bool)
  good[list(bad)] = False
  if not good.any():
    raise ValueError(
      f'all {len(good)} images of {split} are bad, e.g. '
      f'{captions.image_names[0]}: {bad[0]}. Replace them, remove {folder} and '
      'run the same command again'
    )
  kept = np.flatnonzero(good[captions.image_index])
  good_captions = Captions(
    captions.image_ids[good],
    [captions.image_names[row] for row in np.flatnonzero(good)],
    [captions.texts[row] for row in kept],
    [captions.languages[row] for row in kept],
    (np.cumsum(good) - 1)[captions.image_index[kept]].astype(np.int32),
  )
  names = captions.image_names
  named = {names[row]: reason for row, reason in sorted(bad.items())}
  return Split(good_captions, np.concatenate(images)[good], texts[kept]), named


def _encoded_fingerprint(encoded: EncodedShard) -> str:
  return _fingerprint(*_contents(encoded))


def _contents(encoded: EncodedShard) -> Iterator[bytes]:
  for array in encoded:
    yield f'{array.dtype.str} {array.shape}'.encode()
    yield array.tobytes()


def _fingerprint(*contents: bytes) -> str:
  result = hashlib.sha256()
  for content in contents:
    result.update(content)
  return result.hexdigest()
