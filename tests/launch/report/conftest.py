import pytest

from launch.report import cli


@pytest.fixture
def no_images(monkeypatch):
  """Skips the drawing of images, which takes most of the time of a report."""
  for name in ('draw_table', 'plot_curves'):
    monkeypatch.setattr(cli, name, lambda *args: None)
