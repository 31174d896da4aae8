"""Data set specs: what is known of each data set before it is read."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
  """What is known of a data set before it is read.

  Attributes:
    name: as in `config.data.name`, and the name that tfds uses.
    num_classes: labels are 0..num_classes-1.
    image_shape: (H, W, C) of the images that are mixed.
    train_examples: length of the train split, after any subset.
    test_examples: length of the test split, after any subset.
    validation_examples: length of the validation split; 0: there is none.
    mean: per channel, of the whole train split with pixels scaled to 0..1;
      empty for audio, which is not normalised.
    std: population standard deviation, same pixels, same units.
    balanced: whether all classes of a split have equally many examples.
    is_jpeg: JPEG images of many sizes, cropped to `image_shape` as they are
      read. They are only streamed, and a prepared set may have other numbers
      of examples.
    sample_rate: of audio examples of one second, which are turned into images
      on the device; 0: images.
    url: of the publisher's archive.
    checksum: of the archive as published, 'md5:...' or 'sha256:...'; empty if
      the publisher gives none.
    env_variable: environment variable that may hold the path of the archive.
    builder: name of the TFDS builder of prepared sets, and of their folder.
    folder: the only top-level folder of the archive.
    files: the publisher's files of each split.
    recordings: number of recordings of each word, in all splits.
  """

  name: str
  num_classes: int
  image_shape: tuple[int, int, int]
  train_examples: int
  test_examples: int
  validation_examples: int = 0
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  balanced: bool = False
  is_jpeg: bool = False
  sample_rate: int = 0
  url: str = ''
  checksum: str = ''
  env_variable: str = ''
  builder: str = ''
  folder: str = ''
  files: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  recordings: Mapping[str, int] = dataclasses.field(default_factory=dict)

  @property
  def feature(self) -> str:
    """Name of an example's data, beside its 'label'."""
    return 'audio' if self.sample_rate else 'image'

  @property
  def shape(self) -> tuple[int, ...]:
    """Shape of an example's data: (T,) or (H, W, C)."""
    return (self.sample_rate,) if self.sample_rate else self.image_shape

  @property
  def dtype(self) -> str:
    """Name of the dtype of an example's data."""
    return 'int16' if self.sample_rate else 'uint8'

  @property
  def splits(self) -> tuple[str, ...]:
    """Names of the splits."""
    return ('train', 'test', *['validation'] * bool(self.validation_examples))

  def examples(self, split: str) -> int:
    """Returns the number of examples of a split."""
    return getattr(self, f'{split}_examples')

  def per_class(self, split: str) -> int | None:
    """Returns the number of examples of each class; None if they differ."""
    return self.examples(split) // self.num_classes if self.balanced else None


def _cifar(num_classes: int, checksum: str, **fields) -> DatasetSpec:
  return DatasetSpec(
    f'cifar{num_classes}',
    num_classes,
    (32, 32, 3),
    train_examples=50_000,
    test_examples=10_000,
    balanced=True,
    url=f'https://www.cs.toronto.edu/~kriz/cifar-{num_classes}-binary.tar.gz',
    checksum=checksum,
    env_variable=f'JAXMIX_CIFAR{num_classes}',
    builder='jaxmix_cifar',
    **fields,
  )


def _speech_commands(
  version: int, checksum: str, recordings: str, *examples: int
) -> DatasetSpec:
  # Words and numbers in turn.
  words = recordings.split()
  train, test, validation = examples
  return DatasetSpec(
    f'speech_commands_v{version}',
    12,
    (32, 32, 1),
    train,
    test,
    validation,
    sample_rate=16_000,
    url='http://download.tensorflow.org/data/speech_commands_v0.0'
    f'{version}.tar.gz',
    checksum=checksum,
    env_variable='JAXMIX_SPEECH_COMMANDS',
    builder='jaxmix_speech_commands',
    recordings=dict(zip(words[::2], map(int, words[1::2]), strict=True)),
  )


def _fsdd(name: str, train: int, test: int) -> DatasetSpec:
  return DatasetSpec(
    name,
    10,
    (32, 32, 1),
    train,
    test,
    sample_rate=8000,
    url='https://github.com/Jakobovski/free-spoken-digit-dataset',
    env_variable='JAXMIX_FSDD',
    builder='jaxmix_fsdd',
  )


_SPECS = (
  # Mean and std: `x = images / 255; x.mean((0, 1, 2)), x.std((0, 1, 2))` in
  # float64 over the whole train split, to four places. splits_test recomputes
  # those of the digits and of CIFAR-100; the others are the ones in common use.
  DatasetSpec(
    'digits', 10, (8, 8, 1), 1437, 360, mean=(0.3058,), std=(0.3761,)
  ),
  _cifar(
    10,
    'md5:c32a1d4ab5d03f1284b67883e8d87530',
    folder='cifar-10-batches-bin',
    files={
      'train': tuple(f'data_batch_{i}.bin' for i in range(1, 6)),
      'test': ('test_batch.bin',),
    },
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
  ),
  _cifar(
    100,
    'md5:03b5dce01913d631647c71ecec9e9cb8',
    folder='cifar-100-binary',
    files={'train': ('train.bin',), 'test': ('test.bin',)},
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
  ),
  DatasetSpec(
    'tiny_imagenet',
    200,
    (64, 64, 3),
    100_000,
    10_000,
    mean=(0.4802, 0.4481, 0.3975),
    std=(0.2770, 0.2691, 0.2821),
    balanced=True,
    url='http://cs231n.stanford.edu/tiny-imagenet-200.zip',
    checksum='md5:90528d7ca1a48142e341f4ef8d21d0de',
    env_variable='JAXMIX_TINY_IMAGENET',
    builder='jaxmix_tiny_imagenet',
    folder='tiny-imagenet-200',
  ),
  DatasetSpec(
    'imagenet',
    1000,
    (224, 224, 3),
    1_281_167,
    50_000,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    is_jpeg=True,
    builder='imagenet2012',  # as tfds calls it
    files={
      'train': ('ILSVRC2012_img_train.tar',),
      # The test split here; its labels are one class name a line.
      'validation': (
        'ILSVRC2012_img_val.tar',
        'imagenet_2012_validation_synset_labels.txt',
      ),
    },
  ),
  # The number of recordings, and for ten of them one of silence. Those of
  # version 2 are the numbers of Warden's paper.
  _speech_commands(
    1,
    'sha256:743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d',
    'bed 1713 bird 1731 cat 1733 dog 1746 down 2359 eight 2352 five 2357 '
    'four 2372 go 2372 happy 1742 house 1750 left 2353 marvin 1746 nine 2364 '
    'no 2375 off 2357 on 2367 one 2370 right 2367 seven 2377 sheila 1734 '
    'six 2369 stop 2380 three 2356 tree 1733 two 2373 up 2375 wow 1745 '
    'yes 2377 zero 2376',
    51_088 + 5108,
    6835 + 683,
    6798 + 679,
  ),
  _speech_commands(
    2,
    'sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58',
    'backward 1664 bed 2014 bird 2064 cat 2031 dog 2128 down 3917 eight 3787 '
    'five 4052 follow 1579 forward 1557 four 3728 go 3880 happy 2054 '
    'house 2113 learn 1575 left 3801 marvin 2100 nine 3934 no 3941 off 3745 '
    'on 3845 one 3890 right 3778 seven 3998 sheila 2022 six 3860 stop 3872 '
    'three 3727 tree 1759 two 3880 up 3723 visual 1592 wow 2123 yes 4044 '
    'zero 4052',
    84_843 + 8484,
    11_005 + 1100,
    9981 + 998,
  ),
  _fsdd('fsdd', 2700, 300),
  _fsdd('fsdd_speakers', 2000, 1000),
)

DATASETS = {spec.name: spec for spec in _SPECS}
