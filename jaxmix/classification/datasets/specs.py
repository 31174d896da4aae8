"""What is known of each data set before it is read."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
  """What is known of a data set before it is read.

  Attributes:
    name: as in `config.data.name`.
    num_classes: labels are 0..num_classes-1.
    image_shape: (H, W, C), of what is mixed.
    train_examples: length of the train split, after any subset.
    test_examples: the same of the test split.
    mean: per channel, of the whole train split with pixels scaled to 0..1; of
      sounds, whose pictures need none, empty.
    std: population standard deviation, same pixels, same units.
    photographs: of many sizes, cropped to `image_shape` as they are read; only
      streamed, and a prepared set may have other numbers of examples.
    sample_rate: of sounds of one second, which are turned into images on the
      device; 0: images.
    validation_examples: length of the validation split; 0: there is none.
  """

  name: str
  num_classes: int
  image_shape: tuple[int, int, int]
  train_examples: int
  test_examples: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  photographs: bool = False
  sample_rate: int = 0
  validation_examples: int = 0

  @property
  def feature(self) -> str:
    """What an example is called, beside its label."""
    return 'audio' if self.sample_rate else 'image'


def _sounds(name: str, rate: int, classes: int, *examples: int) -> DatasetSpec:
  train, test, validation = examples
  return DatasetSpec(
    name,
    classes,
    (32, 32, 1),
    train,
    test,
    mean=(),
    std=(),
    sample_rate=rate,
    validation_examples=validation,
  )


# Mean and std: `x = images / 255; x.mean((0, 1, 2)), x.std((0, 1, 2))` in
# float64 over the whole train split, to four places. data_test recomputes those
# of the digits and of CIFAR-100; CIFAR-10's are the ones in common use.
DATASETS = {
  'digits': DatasetSpec(
    'digits', 10, (8, 8, 1), 1437, 360, mean=(0.3058,), std=(0.3761,)
  ),
  'cifar10': DatasetSpec(
    'cifar10',
    10,
    (32, 32, 3),
    50_000,
    10_000,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
  ),
  'cifar100': DatasetSpec(
    'cifar100',
    100,
    (32, 32, 3),
    50_000,
    10_000,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
  ),
  # Mean and std of this and the next are those in common use.
  'tiny_imagenet': DatasetSpec(
    'tiny_imagenet',
    200,
    (64, 64, 3),
    100_000,
    10_000,
    mean=(0.4802, 0.4481, 0.3975),
    std=(0.2770, 0.2691, 0.2821),
  ),
  'imagenet': DatasetSpec(
    'imagenet',
    1000,
    (224, 224, 3),
    1_281_167,
    50_000,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    photographs=True,
  ),
  # A tenth as many of silence as of words: `speech_commands` has the numbers.
  'speech_commands_v1': _sounds(
    'speech_commands_v1', 16_000, 12, 56_196, 7_518, 7_477
  ),
  'speech_commands_v2': _sounds(
    'speech_commands_v2', 16_000, 12, 93_327, 12_105, 10_979
  ),
  'fsdd': _sounds('fsdd', 8000, 10, 2700, 300, 0),
  'fsdd_speakers': _sounds('fsdd_speakers', 8000, 10, 2000, 1000, 0),
}
