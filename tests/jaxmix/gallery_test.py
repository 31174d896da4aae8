"""Tests of the gallery command: its figure and its errors."""

import numpy as np
import pytest
from PIL import Image

from jaxmix import gallery


def _image(path, colour, size=(40, 30)):
  Image.new('RGB', size, colour).save(path)
  return path


@pytest.mark.parametrize(
  'modes',
  [
    gallery.BLIND,
    pytest.param(gallery.GUIDED, marks=pytest.mark.slow),  # compiles for long
  ],
)
def test_every_mode_shows_both_images(modes):
  pair = np.stack([np.zeros((16, 16, 3)), np.full((16, 16, 3), 200)])
  table = gallery.draw_gallery(
    pair.astype(np.uint8), seed=0, rows=2, modes=modes
  )
  for row in table:
    assert [title for title, _ in row[:2]] == ['A', 'B']
    assert len(row) == 2 + len(modes)
    for title, mixed in row[2:]:
      lam = float(title.rsplit(' ', 1)[1])
      dark, light = row[0][1].mean(), row[1][1].mean()
      expected = lam * dark + (1 - lam) * light
      # The title is rounded to two places, the blend to whole grey levels.
      assert abs(mixed.mean() - expected) <= 0.005 * 200 + 0.5, (
        f'{title}: not the fraction of the title'
      )


def test_command_writes_a_figure(tmp_path, capsys):
  paths = [
    str(_image(tmp_path / 'a.png', 'red')),
    str(_image(tmp_path / 'b.jpg', 'blue', (20, 50))),
  ]
  out = tmp_path / 'new' / 'mix.png'
  arguments = [*paths, '--out', str(out), '--size', '16', '--rows', '1']
  assert gallery.main(arguments) == 0
  assert capsys.readouterr().out.strip() == str(out)
  with Image.open(out) as image:
    assert image.width > image.height > 100


@pytest.mark.parametrize(
  ('files', 'named'),
  [
    (['a.png'], 'a.png'),
    (['a.png', 'missing.png'], 'missing.png'),
    (['a.png', 'text.txt'], 'text.txt'),
  ],
)
def test_errors_name_the_file_and_write_nothing(tmp_path, capsys, files, named):
  _image(tmp_path / 'a.png', 'red')
  (tmp_path / 'text.txt').write_text('not an image')
  out = tmp_path / 'mix.png'
  paths = [str(tmp_path / name) for name in files]
  assert gallery.main([*paths, '--out', str(out)]) == 2
  assert named in capsys.readouterr().err
  assert not out.exists()
