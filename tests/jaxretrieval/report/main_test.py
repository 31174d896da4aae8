"""`python -m jaxretrieval.report` on a small synthetic set."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxretrieval.feature_sets import captions, feature_set
from jaxretrieval.index import exported_head
from jaxretrieval.report import __main__ as report
from jaxretrieval.report import queries, runs
from tests.jaxretrieval import made_up

LANGUAGES = ('en', 'en', 'de', 'fr')


def _export(folder, train, seed=0):
  """What launch.export writes of a head without hidden layers."""
  rng = np.random.default_rng(seed)
  arrays = {
    'params/block1/kernel': rng.normal(size=(3, 4)).astype(np.float32),
    'params/block1/bias': np.zeros(4, np.float32),
    'model_state/encoders': feature_set.encoders_fingerprint(made_up.ENCODERS),
    'model_state/image_scale': np.float32(2),
    'model_state/text_mean': np.zeros(3, np.float32),
  }
  config = {
    'model': {
      'hidden': [],
      'dropout': [0.0],
      'dtype': 'float32',
      'output': 'relu',
    },
    'loss': {'name': 'm3l', 'objective': 'log'},
    'data': {
      'name': 'features',
      'source': str(train),
      'dir': '',
      'text_encoder': '',
      'split': 'train',
      'languages': ['en'],
    },
  }
  folder.mkdir(parents=True)
  np.savez(folder / 'arrays.npz', allow_pickle=False, **arrays)
  described = {'step': 1234, 'versions': {}, 'config': config}
  (folder / 'export.json').write_text(json.dumps(described))
  return folder


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  """Two exported runs, a feature set and its images."""
  place = tmp_path_factory.mktemp('report')
  split = made_up.split(20, 200, LANGUAGES, seed=1)
  folder = made_up.write(
    place, splits={'train': made_up.split(), 'test': split}
  )
  heads = [
    _export(place / name / 'export', folder, seed)
    for seed, name in enumerate(['first', 'second'])
  ]
  (place / 'pictures').mkdir()
  for name in split.captions.image_names:
    stem = name.removesuffix('.jpg')
    Image.new('RGB', (20, 20)).save(place / 'pictures' / f'{stem}.png')
  return heads, folder, place / 'pictures'


def _main(run, folder, out, *more):
  paths = ['--features', str(folder), '--out', str(out)]
  return report.main(['--run', str(run), *paths, *more])


@pytest.mark.slow
def test_report_of_one_run(inputs, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(queries, 'ROWS', 3)  # sheets are slow to draw
  (run, _), folder, image_folder = inputs
  out = tmp_path / 'report'
  more = ['--paper', 'table2', '--images', str(image_folder)]
  assert _main(run, folder, out, *more) == 0
  assert capsys.readouterr().out.strip() == str(out / 'report.md')
  text = (out / 'report.md').read_text()
  for part in (
    *('eye 1, resize 8', 'ear 1, mean', 'all 20 images', '1,234'),
    *('Trained on toy train (en)', 'no image of this split'),
    *('| en | 40 |', '| de | 20 |', 'mean of 2, not en'),
    *('paper (other encoders): mUSE M3L', '| first, on toy test |'),
  ):
    assert part in text, f'report.md does not say {part!r}'
  shown = {'de_over_images.png', 'languages_over_en.png', 'sheet.png'}
  assert {path.name for path in out.glob('*.png')} == shown
  assert all(f'({name})' in text for name in shown)

  with np.load(out / 'ranks.npz') as ranks:
    # By hand: squared distances of every text to every image.
    split = feature_set.read(folder, 'test', languages=['de'])
    with np.load(run / 'arrays.npz') as arrays:
      kernel = arrays['params/block1/kernel']
    encoded = np.maximum(split.texts.astype(np.float32) @ kernel, 0)
    images = split.images.astype(np.float32) / 2
    distance = np.square(encoded[:, None] - images).sum(-1)
    own = distance[np.arange(20), split.captions.image_index]
    expected = (distance < own[:, None]).sum(1)
    np.testing.assert_array_equal(ranks['de/to_image'][:, 0], expected)
    assert ranks['en/to_image'].shape == (20, 2)
    assert ranks['en/to_text'].shape == (20,)
    np.testing.assert_array_equal(ranks['fr/image_ids'], range(200, 220))
  written = sorted((out / 'clip_benchmark').iterdir())
  assert [path.name for path in written] == [
    f'toy_first_{language}.json' for language in ('de', 'en', 'fr')
  ]
  result = json.loads(written[0].read_text())
  assert result['model'] == 'eye 1 + ear 1' and result['pretrained'] == 'first'
  assert result['metrics']['image_retrieval_recall@5'] == (expected < 5).mean()


def test_two_runs_are_compared(inputs, tmp_path):
  (one, two), folder, _ = inputs
  more = ['--run', str(two), '--no_images', '--languages', 'fr,en']
  assert _main(one, folder, tmp_path, *more) == 0
  text = (tmp_path / 'report.md').read_text()
  assert '## A: first' in text and '## B: second' in text
  assert 'McNemar p' in text and '| de |' not in text
  assert text.index('| fr |') < text.index('| en |')
  assert (tmp_path / 'ranks_b.npz').exists()
  assert not list(tmp_path.glob('*.png'))
  # A run against itself is no different.
  more[1] = str(one)
  assert _main(one, folder, tmp_path, *more) == 0
  text = (tmp_path / 'report.md').read_text()
  assert '| fr | +0.000 [+0.000, +0.000] | 0 | 0 | 1 |' in text


def _note(run, folder, split):
  info = feature_set.read_info(folder)
  config = exported_head.load(run).config
  return runs.check_training(config, info, feature_set.read(folder, split))


def test_images_that_were_trained_on_are_reported(inputs):
  (run, _), folder, _ = inputs
  text = _note(run, folder, 'train')
  assert '6 of these 6 images' in text and 'toy id 100' in text


def test_a_missing_training_set_is_reported(inputs, tmp_path):
  _, folder, _ = inputs
  run = _export(tmp_path / 'export', tmp_path / 'gone')
  text = _note(run, folder, 'test')
  assert 'was not checked' in text


def _other_dims(place):
  message = captions.build([1], ['1.jpg'], [(0, 'en', 'a caption')])
  split = feature_set.Split(message, np.ones((1, 5)), np.ones((1, 3)))
  return made_up.write(place, 'wide', splits={'test': split})


@pytest.mark.parametrize(
  ('case', 'message'),
  [
    ('language', "'xx'"),
    ('split', "split='dev'"),
    ('run', 'launch.export'),
    ('encoders', 'other 1'),
    ('dims', 'images of 4 features'),
    ('images', '.jpg'),
  ],
)
def test_errors_say_what_is_wrong(inputs, tmp_path, capsys, case, message):
  (run, _), folder, _ = inputs
  more = ['--no_images']
  if case == 'language':
    more += ['--languages', 'en,xx']
  elif case == 'split':
    more += ['--split', 'dev']
  elif case == 'run':
    run = tmp_path
  elif case == 'encoders':
    other = feature_set.Encoders('other 1, resize 9', 'ear 1, mean')
    folder = made_up.write(tmp_path, 'other', encoders=other)
  elif case == 'dims':
    folder = _other_dims(tmp_path)
  else:
    more = ['--images', str(tmp_path)]
  assert _main(run, folder, tmp_path / 'out', *more) == 2
  assert message in capsys.readouterr().err
