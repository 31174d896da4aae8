"""Query sheets, and fonts that cover the captions."""

import numpy as np
import pytest
from PIL import Image

from jaxretrieval.report import fonts, sheet

GREEN = np.array([0x1A, 0x96, 0x41])


def _images(count):
  grey = [round(250 * i / count) for i in range(count)]
  return [Image.new('RGB', (30, 20), (g, g, g)) for g in grey]


def _green(path):
  with Image.open(path) as image:
    pixels = np.asarray(image.convert('RGB')).astype(int)
  return np.argwhere((np.abs(pixels - GREEN) < 3).all(-1)), pixels.shape


@pytest.mark.parametrize('right', [0, 2, None])
def test_the_right_image_alone_has_a_green_frame(tmp_path, right):
  rows = [sheet.Row('de', 'ein Hund', _images(3), right)]
  sheet.draw(tmp_path / 'sheet.png', rows, title='title')
  green, (_, width, _) = _green(tmp_path / 'sheet.png')
  if right is None:
    assert not len(green)
  else:
    # Text takes two of five parts of the width, each image one.
    middle = green[:, 1].mean() / width
    assert middle == pytest.approx((2 + right + 0.5) / 5, abs=0.06)


def test_rows_wanted_images_and_notes(tmp_path):
  rows = [
    sheet.Row('en', 'a dog', _images(4), 1, target=_images(1)[0]),
    sheet.Row('tr', 'bir köpek', _images(4), notes=['1.2', '1.3', '2', '3']),
  ]
  sheet.draw(tmp_path / 'a' / 'sheet.png', rows, title='title')
  _, (height, width, _) = _green(tmp_path / 'a' / 'sheet.png')
  assert height > 350 and width > 1000
  with pytest.raises(ValueError, match='rows'):
    sheet.draw(tmp_path / 'sheet.png', [], title='title')


# Cuneiform: in no font that a machine for tests is likely to have.
UNKNOWN = '\N{CUNEIFORM SIGN A}\N{CUNEIFORM SIGN AB}'


def test_text_without_a_font_is_said_and_not_drawn(capsys, monkeypatch):
  from matplotlib import font_manager

  ours = [
    entry
    for entry in font_manager.fontManager.ttflist
    if entry.name.startswith(('DejaVu', 'Last Resort'))
  ]
  monkeypatch.setattr(font_manager.fontManager, 'ttflist', ours)
  chosen = fonts.families(['ein Hund', UNKNOWN])
  assert chosen == ['DejaVu Sans'], 'a font of boxes was taken'
  warning = capsys.readouterr().err
  assert '2 characters' in warning and '--font' in warning
  assert 'no installed font' in fonts.drawable(UNKNOWN, chosen)
  text = 'mężczyzna, мужчина, güneş'
  assert fonts.drawable(text, chosen) == text
  fonts.families([text])
  assert not capsys.readouterr().err


def test_a_font_that_has_the_letters_is_found_or_given(monkeypatch):
  from matplotlib import font_manager

  # STIX has this sign, DejaVu Sans has not.
  sign = '\N{MATHEMATICAL SCRIPT SMALL X}'
  assert fonts.missing(sign, ['DejaVu Sans'])
  found = fonts.families([sign])
  assert len(found) == 2 and not fonts.missing(sign, found)

  file = font_manager.findfont('STIXGeneral')
  monkeypatch.setattr(font_manager.fontManager, 'ttflist', [
    e for e in font_manager.fontManager.ttflist if e.name == 'DejaVu Sans'
  ])  # fmt: skip
  given = fonts.families([sign], file)
  assert given == ['DejaVu Sans', 'STIXGeneral']
  assert not fonts.missing(sign, given)
  with pytest.raises(FileNotFoundError, match='nowhere.ttf'):
    fonts.families([sign], 'nowhere.ttf')


def test_wide_letters_break_sooner():
  assert max(map(len, fonts.wrap('犬' * 40, 20, 9).split('\n'))) == 10
  assert max(map(len, fonts.wrap('a ' * 40, 20, 9).split('\n'))) == 19
  assert fonts.wrap('', 20, 2) == ''
