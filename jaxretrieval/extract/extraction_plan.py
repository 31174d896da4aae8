"""What an extraction has done so far: a plan, and a file for each done shard.

Parts are whole or not there (written aside, then renamed), carry a digest of
their contents and that of the plan, so that a killed extraction goes on where
it was, and parts of other encoders, captions or pictures are never mixed in.
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


class Plan(NamedTuple):
  """All that determines the features.

  Attributes:
    encoders: the ids.
    captions: by split.
    files: by split, the file of each image; None where there is none.
    shard_size: images in a part.
  """

  encoders: Encoders
  captions: dict[str, Captions]
  files: dict[str, list[File | None]]
  shard_size: int


class Shard(NamedTuple):
  """Images `start` to `stop` of a split and all their captions."""

  split: str
  start: int
  stop: int
  path: pathlib.Path


class Part(NamedTuple):
  """The features of one shard.

  Attributes:
    images: float16 [n, Di]; zero for bad ones.
    texts: float16 [m, Dt], in the order of the captions.
    bad: int32 [b], rows of the split whose picture cannot be used.
    reasons: str [b], why.
  """

  images: np.ndarray
  texts: np.ndarray
  bad: np.ndarray
  reasons: np.ndarray


def shards(plan: Plan, folder: pathlib.Path) -> list[Shard]:
  """Cuts the plan into shards; they are the same for every process."""
  found = []
  for split, said in plan.captions.items():
    images = len(said.image_ids)
    starts = range(0, images, plan.shard_size)
    for i, start in enumerate(starts):
      path = folder / f'{split}-{i:05d}-of-{len(starts):05d}.npz'
      stop = min(start + plan.shard_size, images)
      found.append(Shard(split, start, stop, path))
  return found


def caption_rows(plan: Plan, shard: Shard) -> np.ndarray:
  """The rows of the captions of a shard's images, in order."""
  index = plan.captions[shard.split].image_index
  return np.flatnonzero((index >= shard.start) & (index < shard.stop))


def describe(plan: Plan) -> dict[str, Any]:
  """The plan in short: equal only for the same inputs and encoders."""
  return {
    'image encoder': plan.encoders.image,
    'text encoder': plan.encoders.text,
    'shard size': plan.shard_size,
    **{
      f'captions of {split}': _digest(
        said.image_ids.astype('<i8').tobytes(),
        said.image_index.astype('<i4').tobytes(),
        json.dumps([said.image_names, said.texts, said.languages]).encode(),
      )
      for split, said in plan.captions.items()
    },
    # Not their contents: that would be to read them all once more.
    **{
      f'pictures of {split} (their sizes)': _digest(
        json.dumps([file.size if file else None for file in files]).encode()
      )
      for split, files in plan.files.items()
    },
  }


def start(plan: Plan, folder: pathlib.Path) -> str:
  """Begins or goes on with a plan; returns its digest.

  Raises:
    ValueError: `folder` has parts of another plan; says what differs.
  """
  described = describe(plan)
  path = folder / 'plan.json'
  if not path.exists():
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json.dumps(described, indent=2).encode())
  there = untrusted.read_json(path)
  differ = [
    key
    for key in sorted(described.keys() | there.keys())
    if described.get(key) != there.get(key)
  ]
  if differ:
    raise ValueError(
      f'{folder} belongs to an extraction that differs in: '
      f'{"; ".join(differ)}. Give this one another --name, or remove that '
      'folder to begin anew'
    )
  return _digest(json.dumps(described).encode())


def save(path: pathlib.Path, plan_digest: str, part: Part) -> None:
  """Writes a part, whole or not at all.

  Not forced to the disk, which can take a second: what a power cut leaves
  half-written has not its digest, and is done again.
  """
  with atomic.open_atomic(path) as file:
    np.savez(
      file,
      allow_pickle=False,
      plan=np.array(plan_digest),
      sha256=np.array(_part_digest(part)),
      **part._asdict(),
    )


def load(path: pathlib.Path, plan_digest: str) -> Part | None:
  """Reads a part; None if it is not there or damaged.

  Raises:
    ValueError: it belongs to another plan.
  """
  try:
    arrays = untrusted.load_arrays(path)
    part = Part(*(arrays[field] for field in Part._fields))
    plan, sha256 = str(arrays['plan']), str(arrays['sha256'])
  # It is cut or overwritten.
  except (FileNotFoundError, ValueError, KeyError):
    return None
  if sha256 != _part_digest(part):
    return None
  if plan != plan_digest:
    raise ValueError(
      f'{path} is part of another extraction: remove {path.parent} to begin '
      'anew'
    )
  return part


def gather(
  plan: Plan, split: str, folder: pathlib.Path, digest: str
) -> tuple[Split, dict[str, str]]:
  """Puts a split together from its parts.

  Returns:
    The split without its bad images, and for each of them, by name, why.

  Raises:
    ValueError: a part is damaged, or all images are bad.
  """
  said = plan.captions[split]
  images, bad = [], {}
  texts = np.zeros(0, np.float16)
  for shard in shards(plan, folder):
    if shard.split == split:
      part = load(shard.path, digest)
      if part is None:
        shard.path.unlink(missing_ok=True)
        raise ValueError(
          f'{shard.path} was damaged and is removed: run this again'
        )
      images.append(part.images)
      if not texts.size:
        texts = np.zeros((len(said.texts), part.texts.shape[1]), np.float16)
      texts[caption_rows(plan, shard)] = part.texts
      bad |= dict(zip(part.bad.tolist(), part.reasons.tolist(), strict=True))
  good = np.ones(len(said.image_ids), bool)
  good[list(bad)] = False
  if not good.any():
    raise ValueError(
      f'all {len(good)} pictures of {split} are bad, e.g. '
      f'{said.image_names[0]}: {bad[0]}. Once they are not, remove {folder}'
    )
  kept = np.flatnonzero(good[said.image_index])
  captions = Captions(
    said.image_ids[good],
    [said.image_names[row] for row in np.flatnonzero(good)],
    [said.texts[row] for row in kept],
    [said.languages[row] for row in kept],
    (np.cumsum(good) - 1)[said.image_index[kept]].astype(np.int32),
  )
  reasons = {said.image_names[row]: why for row, why in sorted(bad.items())}
  whole = np.concatenate(images)
  return Split(captions, whole[good], texts[kept]), reasons


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Writes a file, whole or not at all."""
  with atomic.open_atomic(path) as file:
    file.write(content)


def _part_digest(part: Part) -> str:
  return _digest(*_contents(part))


def _contents(part: Part) -> Iterator[bytes]:
  for array in part:
    yield f'{array.dtype.str} {array.shape}'.encode()
    yield array.tobytes()


def _digest(*contents: bytes) -> str:
  digest = hashlib.sha256()
  for content in contents:
    digest.update(content)
  return digest.hexdigest()
