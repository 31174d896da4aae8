"""Fake encoders without torch that count their inputs."""

import numpy as np

from jaxretrieval.extract.encoders import Encoder


class Fakes:
  """What takes the place of `encoders`; `stop_at` so many images."""

  def __init__(self):
    self.images = self.texts = 0
    self.stop_at = None

  def image_encoder(self, name, **options):
    def encode(batch):
      if self.stop_at is not None and self.images >= self.stop_at:
        raise OSError('stopped')
      self.images += len(batch)
      return np.stack(
        [np.asarray(i.resize((2, 2)), np.float32).ravel() for i in batch]
      )

    return Encoder(f'{name} 1', 12, encode)

  def text_encoder(self, name, **options):
    def encode(batch):
      self.texts += len(batch)
      return np.array(
        [[len(t), ord(t[0]), ord(t[-1])] for t in batch], np.float32
      )

    return Encoder(f'{name} 1', 3, encode)
