"""Result tables: ranks by language as Markdown, and as CLIP_benchmark JSON."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxretrieval import recall, significance

KS = (1, 5, 10)

# R@10, text to image, of Aggarwal & Kale, arXiv 2012.05107. Table 2: XTD10.
PAPER_TABLE_2 = (
  ('en', 'de', 'fr', 'it', 'es', 'ru', 'ja', 'zh', 'pl', 'tr', 'ko'),
  {
    'LASER PATR': '.803 .702 .686 .673 .682 .677 .572 .672 .666 .597 .518',
    'mUSE PATR': '.836 .712 .756 .769 .761 .734 .643 .736 .718 .669 .694',
    'LASER M3L': '.815 .706 .712 .701 .714 .686 .583 .717 .689 .652 .533',
    'mUSE M3L': '.853 .735 .789 .789 .767 .736 .678 .761 .717 .709 .707',
  },
)
# Table 3: Multi30K. The baseline is Portaz et al. 2019 with MUSE word vectors.
PAPER_TABLE_3 = (
  ('en', 'de', 'fr'),
  {
    'Baseline, trained on en, fr, de': '.546 .450 .469',
    'mUSE M3L, trained on en, fr, de': '.581 .522 .572',
    'Baseline, trained on en': '.566 .442 .460',
    'mUSE M3L, trained on en': '.591 .488 .548',
  },
)
PAPER = {'table2': PAPER_TABLE_2, 'table3': PAPER_TABLE_3}

# Names of data sets in CLIP_benchmark that differ from ours.
_CLIP_BENCHMARK_NAMES = {
  'xtd10': 'multilingual_mscoco_captions',
  'coco_captions': 'mscoco_captions',
}
_WITH_JP = ('multilingual_mscoco_captions', 'xtd10', 'xtd200')


class Ranks(NamedTuple):
  """Ranks in one language, see `recall.ranks`.

  Attributes:
    to_image: ranks of texts among all images: `[G, K]` if each of the G images
      has K texts, else `[M]`.
    to_text: ranks `[G]` of the G images with texts among the texts.
    image_ids: ids of these images, int64 `[G]`.
  """

  to_image: np.ndarray
  to_text: np.ndarray
  image_ids: np.ndarray


def results_table(results: Mapping[str, Ranks]) -> str:
  """Returns the metrics of each language; R@K is text to image."""
  recalls = [f'R@{k}' for k in KS]
  more = ['median rank', 'MRR', 'R@10 image → text']
  lines = [['language', 'texts', *recalls, *more]]
  for language, (to_image, to_text, _) in results.items():
    cells = [_with_interval(to_image, k) for k in KS]
    cells += [
      f'{recall.median_rank(to_image):g}',
      _points(recall.mean_reciprocal_rank(to_image)),
      _points(recall.recall_at(to_text, 10)),
    ]
    lines.append([language, f'{to_image.size:,}', *cells])
  others = not_english(results)
  if len(others) > 1:
    cells = [_mean_with_interval(others, k) for k in KS]
    both = [
      [recall.mean_reciprocal_rank(r.to_image) for r in others.values()],
      [recall.recall_at(r.to_text, 10) for r in others.values()],
    ]
    means = [_points(float(np.mean(values))) for values in both]
    name = f'mean of {len(others)}, not en'
    lines.append([name, '', *cells, '', *means])
  return markdown(lines)


def not_english(results: Mapping[str, Ranks]) -> dict[str, Ranks]:
  """Returns the results of all languages other than English."""
  return {name: ranks for name, ranks in results.items() if name != 'en'}


def paper_table(which: str, runs: Mapping[str, Mapping[str, Ranks]]) -> str:
  """Returns R@10 of runs above the rows of the paper's Table 2 or 3.

  Args:
    which: 'table2' or 'table3'.
    runs: results by language, by name of the run.
  """
  languages, rows = PAPER[which]
  lines = [['R@10, text → image', *languages, 'mean not en']]
  for name, results in runs.items():
    values = {
      language: recall.recall_at(results[language].to_image, 10)
      for language in languages
      if language in results
    }
    lines.append([name, *_row(values, languages)])
  for name, text in rows.items():
    values = dict(zip(languages, map(float, text.split()), strict=True))
    name = f'paper (other encoders): {name}'
    lines.append([name, *_row(values, languages)])
  return markdown(lines)


def _row(values: Mapping[str, float], languages: Sequence[str]) -> list[str]:
  """Returns a cell for each language, and the mean if none is missing."""
  others = [values[n] for n in languages if n != 'en' and n in values]
  complete = len(others) == len(languages) - 1
  cells = [_points(values[n]) if n in values else '–' for n in languages]
  return [*cells, _points(float(np.mean(others))) if complete else '–']


def paired_table(a: Mapping[str, Ranks], b: Mapping[str, Ranks]) -> str:
  """Returns R@10, text to image, of run A minus run B on the same queries."""
  counts = ['found only by A', 'found only by B', 'McNemar p']
  lines = [['language', 'A − B [95 %]', *counts]]
  key = jax.random.key(0)
  for name in a:
    test = significance.paired_test(key, a[name].to_image, b[name].to_image)
    cell = f'{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]'
    p = f'{test.p_value:.2g}' if test.p_value > 1e-300 else '< 1e-300'
    lines.append([name, cell, str(test.only_a), str(test.only_b), p])
  others = not_english(a)
  recalls = [_recall_by_image(not_english(r), 10) for r in (a, b)]
  if len(others) > 1 and recalls[0] is not None and recalls[1] is not None:
    gain = recalls[0] - recalls[1]
    low, high = recall.bootstrap(key, gain, _mean)
    cell = f'{gain.mean():+.3f} [{low:+.3f}, {high:+.3f}]'
    lines.append([f'mean of {len(others)}, not en', cell, '', '', ''])
  return markdown(lines)


def clip_benchmark(
  dataset: str, language: str, ranks: Ranks, *, model: str, pretrained: str
) -> dict[str, Any]:
  """Returns a result in the format of `clip_benchmark build`.

  Args:
    dataset: name of the data set, ours or CLIP_benchmark's.
    language: ISO 639-1 code; 'ja' becomes 'jp' for data sets in which
      CLIP_benchmark writes it so.
    ranks: ranks in that language.
    model: name of the encoders.
    pretrained: name of the run.
  """
  dataset = _CLIP_BENCHMARK_NAMES.get(dataset, dataset)
  jp = language == 'ja' and dataset in _WITH_JP
  metrics = {}
  for k in KS:
    to_image = recall.recall_at(ranks.to_image, k)
    metrics[f'image_retrieval_recall@{k}'] = to_image
    to_text = recall.recall_at(ranks.to_text, k)
    metrics[f'text_retrieval_recall@{k}'] = to_text
  return {
    'dataset': dataset,
    'model': model,
    'pretrained': pretrained,
    'task': 'zeroshot_retrieval',
    'metrics': metrics,
    'language': 'jp' if jp else language,
  }


def markdown(lines: Sequence[Sequence[str]]) -> str:
  """Returns rows of cells as a Markdown table; the first row is the header.

  >>> print(markdown([('a', 'b'), ('1', '2')]), end='')
  | a | b |
  | --- | ---: |
  | 1 | 2 |
  """
  rule = ('---', *['---:'] * (len(lines[0]) - 1))
  rows = [lines[0], rule, *lines[1:]]
  return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def _points(value: float) -> str:
  return f'{value:.3f}'


def _mean(values: np.ndarray) -> float:
  return float(values.mean())


def _interval(values: np.ndarray, statistic: Callable[..., float]) -> str:
  low, high = recall.bootstrap(jax.random.key(0), values, statistic)
  return f'{statistic(values):.3f} [{low:.3f}, {high:.3f}]'


def _with_interval(to_image: np.ndarray, k: int) -> str:
  return _interval(to_image, functools.partial(recall.recall_at, k=k))


def _mean_with_interval(results: Mapping[str, Ranks], k: int) -> str:
  """Returns the mean over languages; the interval resamples images."""
  recalls = _recall_by_image(results, k)
  if recalls is not None:
    return _interval(recalls, _mean)
  values = [recall.recall_at(r.to_image, k) for r in results.values()]
  return _points(float(np.mean(values)))


def _recall_by_image(results: Mapping[str, Ranks], k: int) -> np.ndarray | None:
  """Returns the mean R@K of each image; None if languages differ in images."""
  ranks = list(results.values())
  if not ranks or any(
    r.to_image.ndim < 2 or not np.array_equal(ranks[0].image_ids, r.image_ids)
    for r in ranks
  ):
    return None
  recalls = [(r.to_image < k).mean(axis=1) for r in ranks]
  return np.mean(recalls, axis=0)
