"""t-SNE plots of captions and images: Figures 3 and 4 of the paper.

The paper is Aggarwal & Kale, arXiv 2012.05107. Requires matplotlib and
scikit-learn (extra `plots`).
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxretrieval.report import fonts

POINTS = 1200  # per t-SNE, which then takes about ten seconds


class Cluster(NamedTuple):
  """A cluster of images.

  Attributes:
    members: bool `[N]`, whether an image is in the cluster.
    middle: row of the image nearest to the centre.
  """

  members: np.ndarray
  middle: int


def cluster_images(
  images: np.ndarray, clusters: int, seed: int
) -> list[Cluster]:
  """Returns k-means clusters of image features `[N, D]`, largest first."""
  from sklearn.cluster import KMeans
  from threadpoolctl import threadpool_limits

  images = images.astype(np.float32)
  kmeans = KMeans(min(clusters, len(images)), random_state=seed)
  with threadpool_limits(1):
    distances = np.asarray(kmeans.fit_transform(images))
  labels = distances.argmin(1)
  sizes = np.bincount(labels, minlength=distances.shape[1])
  return [
    Cluster(labels == i, int(distances[:, i].argmin()))
    for i in np.argsort(-sizes, kind='stable')
  ]


def tsne(features: np.ndarray, seed: int) -> np.ndarray:
  """Returns t-SNE positions `[N, 2]` of features, centred and within ±1."""
  from sklearn.decomposition import PCA
  from sklearn.manifold import TSNE
  from threadpoolctl import threadpool_limits

  features = features.astype(np.float32)
  # Fifty principal components suffice and take a tenth of the time.
  if min(features.shape) > 50:
    features = PCA(50, random_state=seed).fit_transform(features)
  perplexity = min(30.0, (len(features) - 1) / 3)
  # Its threads busy-wait: beside another process, two threads take five times
  # as long as one.
  with threadpool_limits(1):
    fitted = TSNE(perplexity=perplexity, random_state=seed)
    layout = fitted.fit_transform(features)
  layout = layout - (layout.max(0) + layout.min(0)) / 2
  return layout / max(np.abs(layout).max(), 1e-12)


def tsne_texts_over_images(
  path: pathlib.Path,
  images: np.ndarray,
  texts: np.ndarray,
  image_index: np.ndarray,
  *,
  language: str,
  names: Sequence[str] = (),
  clusters: int = 8,
  seed: int = 0,
  font: str | os.PathLike[str] | None = None,
) -> None:
  """Draws Figure 3: encoded texts over images, coloured by image cluster.

  Texts and images of one colour lie together if the head maps texts to the
  images that they describe.

  Args:
    path: path of the PNG file.
    images: `[N, D]`, on the scale of `texts`.
    texts: `[M, D]`, output of the head.
    image_index: `[M]` row of the image of each text.
    language: language of the texts.
    names: `[N]` a caption of each image; its middle image names a cluster.
    clusters: number of colours, at most 10.
    seed: seed of the choice of images, of k-means and of t-SNE.
    font: see `fonts.families`.
  """
  groups = cluster_images(images, clusters, seed)
  image_rows, text_rows = _choose(len(images), image_index, seed)
  layout = tsne(np.concatenate([images[image_rows], texts[text_rows]]), seed)
  image_points, text_points = np.split(layout, [len(image_rows)])

  figure, axes = _figure((9.5, 6.6), 1)
  for i, group in enumerate(groups):
    colour = f'C{i}'
    chosen = image_points[group.members[image_rows]]
    axes[0].scatter(
      *chosen.T, s=26, c=colour, marker='x', linewidths=1, alpha=0.8
    )
    chosen = text_points[group.members[image_index[text_rows]]]
    axes[0].scatter(
      *chosen.T, s=22, facecolors='none', edgecolors=colour, linewidths=1
    )
  axes[0].set_title(
    f'{_count(text_rows, "caption")} in {language} (o) over '
    f'{_count(image_rows, "image")} (x), t-SNE',
    fontsize=13,
  )
  chosen = fonts.families(names, font)
  labels = [
    fonts.wrap(fonts.drawable(names[g.middle], chosen), 34, 2)
    if names
    else f'cluster {i}'
    for i, g in enumerate(groups, 1)
  ]
  marks = [
    axes[0].scatter([], [], c=f'C{i}', marker='s', label=f'{label}')
    for i, label in enumerate(labels)
  ]
  axes[0].legend(
    handles=marks,
    title='k-means of the image features;\ncaption of the middle image',
    title_fontsize=10,
    prop={'family': chosen, 'size': 9},
    loc='upper left',
    bbox_to_anchor=(1.01, 1),
    frameon=False,
    alignment='left',
    labelspacing=1,
  )
  _save(figure, path)


def tsne_languages(
  path: pathlib.Path,
  english: np.ndarray,
  others: dict[str, np.ndarray],
  image_ids: dict[str, np.ndarray],
  *,
  seed: int = 0,
) -> None:
  """Draws Figure 4: features of each language over those of English.

  Features are those of the sentence encoder. If languages do not overlap here,
  a head trained on English cannot generalise to them.

  Args:
    path: path of the PNG file.
    english: `[M, D]`.
    others: `[M', D]` by language.
    image_ids: the image of each text by language, including 'en'; both sides of
      a plot show texts of the same images.
    seed: seed of the choice of images and of t-SNE.
  """
  figure, axes = _figure((5.2, 5.4), len(others))
  for axis, (language, texts) in zip(axes, others.items(), strict=True):
    ids = np.intersect1d(image_ids['en'], image_ids[language])
    en_rows = np.flatnonzero(np.isin(image_ids['en'], ids))
    rows = np.flatnonzero(np.isin(image_ids[language], ids))
    fraction = min(1.0, POINTS / (len(en_rows) + len(rows)))
    kept = np.random.default_rng(seed).permutation(ids)
    kept = kept[: max(1, int(fraction * len(ids)))]
    en_rows = en_rows[np.isin(image_ids['en'][en_rows], kept)]
    rows = rows[np.isin(image_ids[language][rows], kept)]
    layout = tsne(np.concatenate([english[en_rows], texts[rows]]), seed)
    en_points, points = np.split(layout, [len(en_rows)])
    axis.scatter(
      *en_points.T,
      s=20,
      facecolors='none',
      edgecolors='C0',
      linewidths=0.8,
      label=f'en ({len(en_rows):,})',
    )
    axis.scatter(
      *points.T, s=16, c='C1', marker='x', linewidths=0.9,
      label=f'{language} ({len(rows):,})',
    )  # fmt: skip
    axis.set_title(f'{language} over en', fontsize=13)
    axis.legend(loc='upper right', fontsize=10, framealpha=0.9)
  figure.suptitle(
    'Captions as the sentence encoder gives them, t-SNE', fontsize=13
  )
  _save(figure, path)


def _choose(
  images: int, image_index: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns rows of images and of their texts, about `POINTS` in total."""
  fraction = min(1.0, POINTS / (images + len(image_index)))
  rng = np.random.default_rng(seed)
  rows = np.sort(rng.permutation(images)[: max(1, int(fraction * images))])
  return rows, np.flatnonzero(np.isin(image_index, rows))


def _figure(size: tuple[float, float], panels: int) -> tuple[Any, Any]:
  """Returns a figure and its axes without ticks, up to four in a row."""
  from matplotlib.figure import Figure

  columns = min(panels, 4)
  lines = -(-panels // columns)
  figure = Figure(
    figsize=(size[0] * columns, size[1] * lines), layout='constrained'
  )
  axes = figure.subplots(lines, columns, squeeze=False).ravel()
  for axis in axes[panels:]:
    axis.axis('off')
  for axis in axes[:panels]:
    axis.set(xticks=[], yticks=[], xlim=(-1.04, 1.04), ylim=(-1.04, 1.04))
  return figure, axes[:panels]


def _save(figure: Any, path: pathlib.Path) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=120)


def _count(rows: np.ndarray, noun: str) -> str:
  return f'{len(rows):,} {noun}{"" if len(rows) == 1 else "s"}'
