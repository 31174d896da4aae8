r"""Command: reports the retrieval results of a trained head by language.

  python -m jaxretrieval.report --run runs/m3l/export --features sets/... \
    --split test --out report [--run runs/patr/export] [--paper table2]

Writes to --out: `report.md`, tables with 95 % intervals (with --paper beside
those of the paper); `ranks.npz`, for later paired tests; the JSON files of
`clip_benchmark build`; and the figures of the paper, which require the extra
`plots`. With a second --run the report has a paired test of the two.
`--images`, a folder or tar file of the images, adds a figure of queries and
their nearest images.
"""

import argparse
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxretrieval.feature_sets import feature_set
from jaxretrieval.index import exported_head
from jaxretrieval.report import tables
from jaxretrieval.report.runs import Run, check_training, evaluate
from jaxretrieval.report.tables import Ranks
from jaxretrieval.training import evaluators

# Languages in the order of the paper's Table 2; others follow.
_ORDER = tables.PAPER_TABLE_2[0]


def render(
  runs: Sequence[Run],
  info: feature_set.FeatureSetInfo,
  split_name: str,
  notes: Sequence[str],
  paper: str | None,
) -> str:
  """Returns the report as Markdown."""
  images = info.splits[split_name]['images']
  lines = [
    f'# Retrieval on {info.name} {split_name}\n',
    f'* Image features: {info.encoders.image}',
    f'* Text features: {info.encoders.text}',
    f'* Candidates: all {images:,} images, for every language. Distances are '
    'squared Euclidean; at a tie the correct image is ranked last.',
    '* Intervals: 95 %, bootstrap over images with all their captions.',
    f'* Licence: {info.licence}\n',
  ]
  for run, letter, note in zip(runs, 'AB', notes, strict=False):
    title = f'{letter}: {run.name}' if len(runs) > 1 else run.name
    loss = run.head.config['loss'].items()
    loss = ', '.join(f'{key} {value}' for key, value in loss)
    lines += [
      f'## {title}\n',
      f'Step {run.head.step:,}. Loss: {loss}. {note}\n',
      'Text → image, except for the last column:\n',
      tables.results_table(run.results),
    ]
  if len(runs) == 2:
    lines += [
      '## A minus B\n',
      'R@10, text → image, on the same queries:\n',
      tables.paired_table(runs[0].results, runs[1].results),
      'McNemar’s exact test treats all queries as independent, which captions '
      'of one image are not; the intervals resample images.\n',
    ]
  if paper:
    on = f'on {info.name} {split_name}'
    named = {f'{run.name}, {on}': run.results for run in runs}
    lines += ['## Comparison with the paper\n']
    lines.append(tables.paper_table(paper, named))
    lines.append(
      'The paper uses features of ResNet-152 and mUSE or LASER, and the test '
      f'set {"XTD10" if paper == "table2" else "Multi30K"}: results with other '
      'features or another test set are not directly comparable.\n'
    )
  return '\n'.join(lines)


def save_ranks(path: pathlib.Path, results: Mapping[str, Ranks]) -> None:
  """Writes `<language>/{to_image,to_text,image_ids}` to a .npz file."""
  arrays = {
    f'{language}/{field}': array
    for language, ranks in results.items()
    for field, array in ranks._asdict().items()
  }
  np.savez(path, allow_pickle=False, **arrays)


def save_clip_benchmark(
  folder: pathlib.Path, dataset: str, info: feature_set.FeatureSetInfo, run: Run
) -> None:
  """Writes a JSON file for each language, see `tables.clip_benchmark`."""
  folder.mkdir(exist_ok=True)
  model = ' + '.join(name.split(',')[0] for name in info.encoders)
  for language, ranks in run.results.items():
    result = tables.clip_benchmark(
      dataset, language, ranks, model=model, pretrained=run.name
    )
    name = '_'.join(result[k] for k in ('dataset', 'pretrained', 'language'))
    name = ''.join(c if c.isalnum() or c in '-_.=' else '_' for c in name)
    (folder / f'{name}.json').write_text(json.dumps(result, indent=2) + '\n')


def draw(
  run: Run, split: feature_set.Split, out: pathlib.Path, options: Any
) -> list[str]:
  """Draws the figures; returns the Markdown lines that include them."""
  from jaxretrieval.report import plots, queries

  captions, languages = split.captions, list(run.results)
  rows = {name: evaluators.caption_rows(split, name) for name in languages}
  index = {name: captions.image_index[rows[name]] for name in languages}
  others = [name for name in languages if name != 'en']
  tasks: dict[str, Callable[[pathlib.Path], None]] = {}

  shown = (others or languages)[0]
  tasks[f'{shown}_over_images.png'] = functools.partial(
    plots.tsne_texts_over_images,
    images=split.images.astype(np.float32) / np.float32(run.head.scale),
    texts=run.head.encode(split.texts[rows[shown]]),
    image_index=index[shown],
    language=shown,
    names=queries.image_texts(captions, languages),
    font=options.font,
  )
  if others and 'en' in languages:
    tasks['languages_over_en.png'] = functools.partial(
      plots.tsne_languages,
      english=split.texts[rows['en']],
      others={name: split.texts[rows[name]] for name in others},
      image_ids=index,
    )
  if options.images:
    tasks['sheet.png'] = functools.partial(
      queries.draw_sheet,
      head=run.head,
      split=split,
      languages=languages,
      source=options.images,
      font=options.font,
    )
  for name, task in tqdm(tasks.items(), 'figures'):
    task(out / name)
  return [f'![{name}]({name})\n' for name in tasks]


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m jaxretrieval.report',
    description='Tables and figures of the results of a trained head.',
  )
  add = parser.add_argument
  file = functools.partial(add, type=pathlib.Path)
  run = 'folder of an exported head; give it twice to compare two'
  file('--run', required=True, action='append', help=run)
  file('--features', required=True, help='folder of a feature set')
  add('--split', default='test', help='split of the feature set')
  add('--languages', default='', help='e.g. en,de; default: all of the split')
  file('--out', required=True, help='folder of the report')
  add('--paper', choices=list(tables.PAPER), help='table of the paper to show')
  add('--dataset', help='name in the JSON files; default: that of the set')
  file('--images', help='folder or tar file of the images, for a query sheet')
  file('--font', help='font file for the captions')
  add('--no_images', action='store_true', help='write tables only')
  options = parser.parse_args(arguments)
  if len(options.run) > 2:
    parser.error(f'--run was given {len(options.run)} times; give 1 or 2')
  try:
    if not options.no_images:
      import matplotlib  # noqa: F401
      import sklearn  # noqa: F401
    write(options)
  except ModuleNotFoundError as error:
    print(
      f"error: {error}: pip install -e '.[plots]' in a clone (or pip install "
      "'randommix[plots]'), or give --no_images",
      file=sys.stderr,
    )
    return 2
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print(options.out / 'report.md')
  return 0


def write(options: argparse.Namespace) -> None:
  """Writes the report; `options` are the parsed flags of `main`."""
  info = feature_set.read_info(options.features)
  requested = [name for name in options.languages.split(',') if name]
  split = feature_set.read(options.features, options.split, languages=requested)
  languages = requested or sorted(
    set(split.captions.languages),
    key=lambda n: (_ORDER.index(n) if n in _ORDER else len(_ORDER), n),
  )
  heads = [exported_head.load(path) for path in options.run]
  for head in heads:
    head.check_encoders(info.encoders)
  notes = [check_training(head.config, info, split) for head in heads]
  runs = [
    Run(name, head, evaluate(head, split, languages))
    for name, head in zip(_names(options.run), heads, strict=True)
  ]
  options.out.mkdir(parents=True, exist_ok=True)
  for run, suffix in zip(runs, ('', '_b'), strict=False):
    save_ranks(options.out / f'ranks{suffix}.npz', run.results)
    save_clip_benchmark(
      options.out / 'clip_benchmark', options.dataset or info.name, info, run
    )
  text = render(runs, info, options.split, notes, options.paper)
  (options.out / 'report.md').write_text(text, 'utf-8')
  if not options.no_images:
    figures = draw(runs[0], split, options.out, options)
    text = '\n'.join([text, '## Figures\n', *figures])
    (options.out / 'report.md').write_text(text, 'utf-8')


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
  """Returns a name for each run: its folder name, or its path if not unique."""
  full = [path.resolve() for path in paths]
  short = [p.parent.name if p.name == 'export' else p.name for p in full]
  return short if len(set(short)) == len(short) else [str(p) for p in paths]


if __name__ == '__main__':
  sys.exit(main())
