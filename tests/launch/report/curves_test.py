import pytest

from launch.report.curves import legend, mean_curve, plot_curves
from launch.report.groups import group_runs
from launch.report.runs import find_runs
from tests.launch.report.cli_test import write_run


def test_the_curve_is_the_mean_of_the_runs_at_each_epoch(tmp_path):
  write_run(tmp_path / 'a0', [0.1, 0.5], seed=0)
  write_run(tmp_path / 'a1', [0.2, 0.7], seed=1)
  write_run(tmp_path / 'a2', [0.3], seed=2, finished=False)
  (group,) = group_runs(find_runs([tmp_path]).runs)
  epochs, means, stds = mean_curve(group.runs, 'test/accuracy')
  assert epochs == [1.0, 2.0]
  assert means == pytest.approx([0.2, 0.6])
  assert stds == pytest.approx([0.1, 0.1 * 2**0.5])
  assert legend(group) == f'{tmp_path.name} (3 runs)'


def test_the_curve_of_one_run_is_named_by_its_folder(tmp_path):
  write_run(tmp_path / 'first_try', [0.5])
  (group,) = group_runs(find_runs([tmp_path]).runs)
  assert legend(group) == 'first_try'


def test_a_single_point_is_visible(tmp_path, monkeypatch):
  pytest.importorskip('matplotlib')
  from matplotlib import figure

  drawn = []
  monkeypatch.setattr(
    figure.Figure, 'savefig', lambda self, *a, **o: drawn.append(self)
  )
  write_run(tmp_path / 'x', [0.5])
  plot_curves(group_runs(find_runs([tmp_path]).runs), tmp_path / 'a.png')
  (line,) = drawn[0].axes[0].lines
  assert line.get_marker() == 'o'


@pytest.mark.filterwarnings('error')
def test_forty_groups_have_different_colours_and_a_legend_beside_them(
  tmp_path, monkeypatch
):
  pytest.importorskip('matplotlib')
  from matplotlib import figure

  drawn = []
  monkeypatch.setattr(
    figure.Figure, 'savefig', lambda self, *a, **o: drawn.append(self)
  )
  for i in range(40):
    write_run(tmp_path / f'row={i}', [0.25, 0.5], number=i)
  plot_curves(group_runs(find_runs([tmp_path]).runs), tmp_path / 'a.png')
  (image,) = drawn
  image.draw_without_rendering()
  lines = image.axes[0].lines
  assert len({line.get_color() for line in lines}) == 40
  (names,) = image.legends
  assert {text.get_text() for text in names.get_texts()} == {
    f'row={i}' for i in range(40)
  }
  box = names.get_window_extent()
  assert box.x0 >= max(axis.get_window_extent().x1 for axis in image.axes)
  assert 0 <= box.y0 and box.y1 <= image.bbox.y1, 'the legend is cut off'
