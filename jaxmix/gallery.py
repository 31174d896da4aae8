"""Gallery command: draws a figure of your images, mixed by each mode.

  python -m jaxmix.gallery cat.jpg dog.jpg tree.png --out mix.png

Every row is one pair, mixed by each mode with its own lambda; `--guided` shows
the modes that depend on the images. Without images it uses the two sample
images of scikit-learn. It needs the extra `plots`: `pip install -e '.[plots]'`
in a clone, or `pip install 'randommix[plots]'`.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

import jaxmix

Mode = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def _blind(draw: Callable[..., jaxmix.Mix]) -> Mode:
  def mode(key: jax.Array, pair: jax.Array) -> tuple[jax.Array, jax.Array]:
    mix = draw(key, pair.shape, pairing='flip')
    return mix.lam[0], jaxmix.apply(mix, pair)[0]

  return mode


def _saliency_mix(
  key: jax.Array, pair: jax.Array
) -> tuple[jax.Array, jax.Array]:
  saliency = jaxmix.spectral_residual(pair)
  mix = jaxmix.draw_saliency_mix(key, saliency, pairing='flip')
  return mix.lam[0], jaxmix.apply(mix, pair)[0]


def _puzzle_mix(key: jax.Array, pair: jax.Array) -> tuple[jax.Array, jax.Array]:
  saliency = jaxmix.spectral_residual(pair)
  mix = jaxmix.draw_puzzle_mix(
    key, saliency, pair, blocks=(4, 8), pairing='flip'
  )
  return mix.lam[0], jaxmix.apply(mix, pair)[0]


def _co_mixup(key: jax.Array, pair: jax.Array) -> tuple[jax.Array, jax.Array]:
  saliency = jaxmix.spectral_residual(pair)
  owner = jaxmix.draw_co_mixup(key, saliency, group=2)
  return (owner[0] == 0).mean(), jaxmix.take_blocks(pair, owner)[0]


# Jitted here, so that images of one size are compiled for once in a process.
BLIND: dict[str, Mode] = {
  'Mixup': jax.jit(_blind(jaxmix.draw_mixup)),
  'CutMix': jax.jit(_blind(jaxmix.draw_cutmix)),
  'ResizeMix': jax.jit(_blind(jaxmix.draw_resizemix)),
  'FMix': jax.jit(_blind(jaxmix.draw_fmix)),
}
GUIDED: dict[str, Mode] = {
  'SaliencyMix': jax.jit(_saliency_mix),
  'Puzzle Mix': jax.jit(_puzzle_mix),
  'Co-Mixup': jax.jit(_co_mixup),
}


def load_images(paths: Sequence[pathlib.Path], size: int) -> np.ndarray:
  """Reads images as uint8 `[N, size, size, 3]`, cropped at the centre.

  Raises:
    ValueError: a file is not an image, or there are fewer than two.
    OSError: a file cannot be read.
  """
  from PIL import Image, ImageOps, UnidentifiedImageError

  for path in paths:
    if not path.exists():
      raise FileNotFoundError(f'{path} does not exist')
  if len(paths) == 1:
    raise ValueError(f'{paths[0]}: mixing needs two or more images')
  images = []
  for path in paths:
    try:
      with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert('RGB')
    except UnidentifiedImageError:
      raise ValueError(f'{path} is not an image that Pillow can read') from None
    images.append(np.asarray(ImageOps.fit(upright, (size, size))))
  return np.stack(images)


def sample_images(size: int) -> np.ndarray:
  """Returns scikit-learn's two sample images: uint8 `[2, size, size, 3]`."""
  from PIL import Image, ImageOps
  from sklearn.datasets import load_sample_images

  images = map(Image.fromarray, load_sample_images().images)
  return np.stack(
    [np.asarray(ImageOps.fit(image, (size, size))) for image in images]
  )


def draw_gallery(
  images: np.ndarray,
  *,
  seed: int,
  rows: int,
  modes: Mapping[str, Mode] = BLIND,
) -> list[list[tuple[str, np.ndarray]]]:
  """Mixes each image with the next one, by each mode.

  Args:
    images: uint8 `[N, H, W, 3]`, `N >= 2`.
    seed: seed of the draws.
    rows: number of pairs to show; after N pairs they repeat with new draws.
    modes: modes to show, by name.

  Returns:
    For each row the titled images: the pair, then each mode.
  """
  table = []
  for row in range(rows):
    pair = images[[row % len(images), (row + 1) % len(images)]]
    titled = [('A', pair[0]), ('B', pair[1])]
    for column, (name, mix) in enumerate(modes.items()):
      key = jax.random.key(seed)
      key = jax.random.fold_in(jax.random.fold_in(key, row), column)
      lam, mixed = mix(key, jnp.asarray(pair))
      titled.append((f'{name}, λ = {lam:.2f}', np.asarray(mixed)))
    table.append(titled)
  return table


def save_gallery(
  table: list[list[tuple[str, np.ndarray]]], path: pathlib.Path
) -> None:
  """Writes the titled images as one figure."""
  import matplotlib.figure

  rows, columns = len(table), len(table[0])
  figure = matplotlib.figure.Figure(
    figsize=(2.1 * columns, 2.35 * rows), layout='constrained'
  )
  for axes, (title, image) in zip(
    figure.subplots(rows, columns, squeeze=False).flat,
    (cell for row in table for cell in row),
    strict=True,
  ):
    axes.imshow(image)
    axes.set_title(title, fontsize=10)
    axes.axis('off')
  figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m jaxmix.gallery',
    description='Draws images mixed by each mode of jaxmix, as one figure.',
  )
  parser.add_argument('images', nargs='*', type=pathlib.Path)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--size', type=int, default=224, help='pixels a side')
  parser.add_argument('--rows', type=int, default=4, help='pairs to show')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument(
    '--guided', action='store_true', help='modes that depend on the images'
  )
  options = parser.parse_args(arguments)
  if options.size < 16 or options.rows < 1 or options.seed < 0:
    parser.error(
      f'--size={options.size} must be 16 or more, --rows={options.rows} 1 or '
      f'more, --seed={options.seed} 0 or more'
    )
  if options.guided and options.size % 8:
    parser.error(
      f'--size={options.size} must be a multiple of 8 with --guided, which '
      'moves blocks'
    )
  try:
    if options.images:
      images = load_images(options.images, options.size)
    else:
      images = sample_images(options.size)
    table = draw_gallery(
      images,
      seed=options.seed,
      rows=options.rows,
      modes=GUIDED if options.guided else BLIND,
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_gallery(table, options.out)
  except ImportError as error:
    print(
      f"error: {error}; run pip install -e '.[plots]' in a clone, or "
      "pip install 'randommix[plots]'",
      file=sys.stderr,
    )
    return 2
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print(options.out)
  return 0


if __name__ == '__main__':
  sys.exit(main())
