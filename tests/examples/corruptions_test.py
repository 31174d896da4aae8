import numpy as np
import pytest
from PIL import Image

from examples import corruptions
from jaxmix.classification.evaluators.corruptions import CORRUPTIONS


@pytest.mark.slow
def test_the_figure_of_an_image(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(
    corruptions,
    'corrupted',
    lambda image: np.broadcast_to(image, (len(CORRUPTIONS), 5, *image.shape)),
  )
  pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
  Image.fromarray(pixels).save(tmp_path / 'a.png')
  out = tmp_path / 'figure.png'
  corruptions.main([str(tmp_path / 'a.png'), '--out', str(out), '--side=16'])
  assert capsys.readouterr().out.strip() == str(out)
  with Image.open(out) as figure:
    assert np.asarray(figure.convert('L')).std() > 20, 'an empty figure'


@pytest.mark.slow
def test_all_corruptions_are_computed():
  images = corruptions.corrupted(np.full((16, 16, 3), 100, np.uint8))
  assert images.shape == (len(CORRUPTIONS), 5, 16, 16, 3)


@pytest.mark.parametrize('arguments', [['nowhere.jpg'], ['--side=20']])
def test_bad_arguments_are_named(arguments, capsys):
  with pytest.raises(SystemExit):
    corruptions.main(arguments)
  assert arguments[0].rpartition('=')[2] in capsys.readouterr().err
