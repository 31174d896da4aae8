import itertools

import pytest

from launch.report.table_image import draw_table

LINES = [
  ['config', 'clean/top1 (%)', 'paper', 'difference'],
  ['method=random_mix with $a_name', '84.84 ± 0.10 (3)', '84.84', '+0.00'],
  ['none', '5', '80.87', '–'],
]


@pytest.fixture
def figure(monkeypatch):
  pytest.importorskip('matplotlib')
  from matplotlib import figure

  drawn = []
  save = figure.Figure.savefig

  def keep(self, *args, **options):
    save(self, *args, **options)
    drawn.append(self)

  monkeypatch.setattr(figure.Figure, 'savefig', keep)
  return drawn


def test_every_cell_is_visible_and_columns_are_aligned(figure, tmp_path):
  draw_table(LINES, tmp_path / 'table.png')
  texts = figure[0].axes[0].texts
  shown = [text.get_text().replace('/\n', '/') for text in texts]
  assert sorted(shown) == sorted(itertools.chain(*LINES))
  boxes = [text.get_window_extent() for text in texts]
  width, height = figure[0].bbox.width, figure[0].bbox.height
  for box in boxes:
    assert 0 < box.x0 and box.x1 < width and 0 < box.y0 and box.y1 < height
  for one, other in itertools.combinations(boxes, 2):
    assert not one.overlaps(other)
  box = dict(zip(shown, boxes, strict=True))
  for column in range(1, 3):
    edges = [box[line[column]].x1 for line in LINES]
    assert max(edges) - min(edges) < 2, 'pixels'
  assert abs(box['config'].x0 - box['none'].x0) < 2


def test_a_table_of_any_width_is_drawn(tmp_path):
  pytest.importorskip('matplotlib')
  draw_table([['x' * 900] * 2] * 2, tmp_path / 'table.png')
  header = (tmp_path / 'table.png').read_bytes()[16:20]
  assert 19_000 < int.from_bytes(header) < 20_010, 'pixels'
