"""Tables of known ranks, the paper's numbers, and CLIP_benchmark JSON."""

import json

import numpy as np
import pytest

from jaxretrieval.report import tables

IDS = np.array([3, 5, 8, 9])


def _ranks(to_image, image_ids=IDS):
  to_image = np.asarray(to_image)
  return tables.Ranks(to_image, to_image.reshape(-1)[: len(IDS)], image_ids)


RESULTS = {
  'en': _ranks([[0, 1], [4, 50], [9, 10], [0, 0]]),
  'de': _ranks([[0], [99], [9], [3]]),
  'ja': _ranks([[0], [99], [99], [0]]),
}


def _cells(table):
  lines = [line.strip('| ').split(' | ') for line in table.splitlines()]
  return {line[0].strip(): line for line in lines}


def test_results_table_has_each_language_and_the_mean_of_others():
  cells = _cells(tables.results_table(RESULTS))
  head = [name.strip() for name in cells['language']]
  assert head[:5] == ['language', 'texts', 'R@1', 'R@5', 'R@10']
  values = {
    name: [cell.split(' ')[0] for cell in line[2:5]]
    for name, line in cells.items()
  }
  assert values['en'] == ['0.375', '0.625', '0.750']
  assert values['de'] == ['0.250', '0.500', '0.750']
  assert values['ja'] == ['0.500', '0.500', '0.500']
  assert values['mean of 2, not en'] == ['0.375', '0.500', '0.625']
  assert cells['en'][1] == '8'
  assert cells['de'][5] == '7', 'median of ranks 1, 100, 10, 4'
  low, high = cells['de'][4].split('[')[1].rstrip(']').split(', ')
  assert float(low) < 0.75 < float(high)


def test_mean_has_no_interval_if_the_images_differ():
  other = {**RESULTS, 'ja': _ranks([[0], [99], [99], [0]], IDS + 1)}
  cells = _cells(tables.results_table(other))
  assert cells['mean of 2, not en'][4].strip() == '0.625'


@pytest.mark.parametrize(
  ('which', 'means'),
  [
    # The research note has these of Table 2, from its columns.
    ('table2', {'LASER PATR': 0.645, 'mUSE PATR': 0.719}),
    ('table2', {'LASER M3L': 0.669, 'mUSE M3L': 0.739}),
    ('table3', {'mUSE M3L, trained on en': (0.488 + 0.548) / 2}),
  ],
)
def test_rows_of_the_paper(which, means):
  cells = _cells(tables.paper_table(which, {'ours': RESULTS}))
  for name, mean in means.items():
    row = cells[f'paper (other encoders): {name}']
    assert float(row[-1]) == pytest.approx(mean, abs=1.1e-3)
  ours = dict(
    zip(
      cells['R@10, text → image'],
      [c.strip() for c in cells['ours']],
      strict=True,
    )
  )
  assert (ours['en'], ours['de'], ours['fr']) == ('0.750', '0.750', '–')
  assert cells['ours'][-1].strip() == '–', 'a mean of some of the languages'


def test_paired_table_counts_queries_that_one_run_alone_finds():
  worse = {**RESULTS, 'de': _ranks([[99], [99], [9], [99]])}
  cells = _cells(tables.paired_table(RESULTS, worse))
  assert cells['de'][1].startswith('+0.500 [')
  assert [cell.strip() for cell in cells['de'][2:]] == ['2', '0', '0.5']
  assert [cell.strip() for cell in cells['en'][2:]] == ['0', '0', '1']
  assert cells['mean of 2, not en'][1].startswith('+0.250 [')


@pytest.mark.parametrize(
  ('dataset', 'language', 'theirs'),
  [
    ('xtd10', 'ja', ('multilingual_mscoco_captions', 'jp')),
    ('xtd10', 'de', ('multilingual_mscoco_captions', 'de')),
    ('multilingual_mscoco_captions', 'ja', (None, 'jp')),
    ('coco_captions', 'en', ('mscoco_captions', 'en')),
    ('crossmodal3600', 'ja', (None, 'ja')),
  ],
)
def test_clip_benchmark_names(dataset, language, theirs):
  result = tables.clip_benchmark(
    dataset, language, RESULTS['ja'], model='m', pretrained='p'
  )
  assert result['dataset'] == (theirs[0] or dataset)
  assert result['language'] == theirs[1]


def test_clip_benchmark_build_can_merge_it():
  result = tables.clip_benchmark(
    'xtd10', 'de', RESULTS['de'], model='r152 + mUSE', pretrained='m3l'
  )
  # As its `build` does: one flat row, and the full name of the model.
  data = json.loads(json.dumps(result))
  row = {**data['metrics'], **data}
  del row['metrics']
  row['model_fullname'] = row['model'] + ' ' + row['pretrained']
  assert row['task'] == 'zeroshot_retrieval'
  assert row['image_retrieval_recall@10'] == 0.75
  assert row['text_retrieval_recall@1'] == 0.25
  assert set(row) == {
    *('dataset', 'model', 'pretrained', 'task', 'language', 'model_fullname'),
    *(f'image_retrieval_recall@{k}' for k in (1, 5, 10)),
    *(f'text_retrieval_recall@{k}' for k in (1, 5, 10)),
  }
