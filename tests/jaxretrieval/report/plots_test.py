"""Clusters, t-SNE positions and files of the plots."""

import numpy as np
import pytest
from PIL import Image

from jaxretrieval.report import plots


def _planted(groups=3, size=12, dim=8, seed=0):
  rng = np.random.default_rng(seed)
  centres = 10 * rng.normal(size=(groups, dim))
  group = np.arange(groups * size) % groups
  noise = 0.1 * rng.normal(size=(len(group), dim))
  return (centres[group] + noise).astype(np.float32), group


def test_clusters_are_those_planted():
  images, group = _planted()
  images, group = images[:-2], group[:-2]  # of unequal size
  clusters = plots.cluster_images(images, 3, seed=0)
  for cluster in clusters:
    assert len(set(group[cluster.members])) == 1
    centre = images[cluster.members].mean(0)
    distance = np.square(images - centre).sum(1)
    assert cluster.middle == distance.argmin()
  sizes = [cluster.members.sum() for cluster in clusters]
  assert sizes == sorted(sizes, reverse=True) and sum(sizes) == len(images)
  assert len(plots.cluster_images(images[:2], 8, seed=0)) == 2


def test_layout_keeps_neighbours_and_repeats():
  images, group = _planted()
  layout = plots.tsne(images, seed=0)
  assert layout.shape == (36, 2) and np.abs(layout).max() == pytest.approx(1)
  distance = np.square(layout[:, None] - layout).sum(-1)
  np.fill_diagonal(distance, np.inf)
  assert (group[distance.argmin(1)] == group).all()
  np.testing.assert_array_equal(layout, plots.tsne(images, seed=0))


def _size(path):
  with Image.open(path) as image:
    return image.size


def test_images_are_written(tmp_path):
  images, _ = _planted()
  texts = np.repeat(images, 2, 0) + 0.1
  index = np.repeat(np.arange(len(images)), 2)
  path = tmp_path / 'new' / 'texts.png'
  plots.tsne_texts_over_images(
    path, images, texts, index, language='it', names=['a caption'] * 36
  )
  assert min(_size(path)) > 600
  one = tmp_path / 'one.png'
  two = tmp_path / 'two.png'
  ids = {'en': index, 'de': index[:60], 'ja': index[12:]}
  others = {'de': texts[:60], 'ja': texts[12:]}
  plots.tsne_languages(one, texts, {'de': others['de']}, ids)
  plots.tsne_languages(two, texts, others, ids)
  assert _size(two)[0] > 1.9 * _size(one)[0]


def test_points_are_bounded_and_texts_are_those_of_the_images(monkeypatch):
  monkeypatch.setattr(plots, 'POINTS', 40)
  index = np.repeat(np.arange(30), 3)
  rows, texts = plots._choose(30, index, seed=0)
  assert len(rows) == 10 and len(rows) + len(texts) == 40
  assert set(index[texts]) == set(rows)
