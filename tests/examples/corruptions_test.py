import numpy as np
import pytest
from PIL import Image

from examples import corruptions
from jaxmix.classification.evaluators.corruptions import CORRUPTIONS


def test_a_sheet_of_a_picture(tmp_path, capsys):
  pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
  Image.fromarray(pixels).save(tmp_path / 'a.png')
  out = tmp_path / 'sheet.png'
  corruptions.main([str(tmp_path / 'a.png'), '--out', str(out), '--side=16'])
  assert capsys.readouterr().out.strip() == str(out)
  with Image.open(out) as sheet:
    assert np.asarray(sheet.convert('L')).std() > 20, 'an empty sheet'


def test_all_of_them_are_there():
  images = corruptions.corrupted(np.full((16, 16, 3), 100, np.uint8))
  assert images.shape == (len(CORRUPTIONS), 5, 16, 16, 3)


@pytest.mark.parametrize('arguments', [['nowhere.jpg'], ['--side=20']])
def test_what_cannot_be_shown_is_told(arguments, capsys):
  with pytest.raises(SystemExit):
    corruptions.main(arguments)
  assert arguments[0].rpartition('=')[2] in capsys.readouterr().err
