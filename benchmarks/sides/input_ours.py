"""Our sides of `input_pipeline`: the streamed feed, and decoders alone."""

import dataclasses
import importlib.metadata
import io
import pathlib
import tempfile
from typing import Any

import numpy as np

from benchmarks.sides import jpeg_images


def feed(folder: str, workers: int, batch_size: int, epochs: int) -> Any:
  """Makes a side whose call reads all files `epochs` times."""
  import jax
  from array_record.python import (
    array_record_data_source,
    array_record_module,  # pyright: ignore
  )
  from tensorflow_datasets.proto import tf_example_pb2

  from jaxmix.classification.datasets import imagenet_source
  from jaxmix.files import record_sets
  from launch.mesh import make_mesh
  from launch.train.feeds import streamed_feed
  from launch.train.schedule import StepSchedule

  files = jpeg_images.read(folder)
  path = pathlib.Path(tempfile.mkdtemp()) / 'train.array_record'
  writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
  for i, data in enumerate(files):
    example = tf_example_pb2.Example()  # pyright: ignore
    example.features.feature['image'].bytes_list.value.append(data)
    example.features.feature['label'].int64_list.value.append(i % 1000)
    writer.write(example.SerializeToString())
  writer.close()
  source = imagenet_source.JpegSource(
    shards=record_sets.Shards('train', (path,), (len(files),)),
    records=array_record_data_source.ArrayRecordDataSource(str(path)),
    examples=len(files),
    shape=(224, 224, 3),
    workers=workers,
    random=True,
    seed=0,
    flip=True,
  )
  steps = epochs * len(files) // batch_size
  plan = StepSchedule(epochs + 1, len(files), batch_size, 1)
  mesh = make_mesh()
  calls = iter(range(1, 1_000_000))

  def call():
    # A new seed for each call, so that no crop repeats. Starts in the second
    # epoch, as 99 of the 100 epochs of the recipe.
    seen, visits = 0, dataclasses.replace(source, seed=next(calls))
    stream = streamed_feed(visits, visits.seed, plan, mesh)
    for block in stream.chunks(len(files) // batch_size):
      seen += jax.block_until_ready(block)['label'].shape[1]
    assert seen == steps * batch_size, (seen, steps)

  return call, {'images': steps * batch_size}


def decoder(folder: str, library: str) -> Any:
  """Makes a side whose call decodes every file completely, on one thread."""
  files = jpeg_images.read(folder)
  if library == 'simplejpeg':
    import simplejpeg

    memory = np.empty(2**22, np.uint8)

    def decode(data: bytes) -> None:
      simplejpeg.decode_jpeg(data, 'RGB', buffer=memory)

  elif library == 'opencv-python-headless':
    import cv2

    cv2.setNumThreads(0)

    def decode(data: bytes) -> None:
      cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)

  else:
    from PIL import Image

    def decode(data: bytes) -> None:
      Image.open(io.BytesIO(data)).convert('RGB')

  def call():
    for data in files:
      decode(data)

  version = importlib.metadata.version(library)
  return call, {'images': len(files), 'version': version}


def crops(folder: str) -> Any:
  """Makes a side whose call makes one random crop of every file, one thread."""
  from jaxmix.classification.datasets import jpeg

  files = jpeg_images.read(folder)
  out = np.empty((224, 224, 3), np.uint8)
  epochs = iter(range(1, 1_000_000))

  def call():
    epoch = next(epochs)
    for i, data in enumerate(files):
      frame = jpeg.read_frame(data)
      crop = jpeg.random_resized_crop(
        0, epoch, i, frame.height, frame.width, flip=True
      )
      jpeg.read_crop(data, frame, crop, out, whole=False)

  return call, {'images': len(files)}
