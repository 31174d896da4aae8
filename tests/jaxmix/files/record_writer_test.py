import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from jaxmix.files import record_sets, record_writer

IMAGE = np.full((64, 64), 7, np.uint8)


def write(root, count=7, lengths=(3, 2, 2), **options):
  features = tfds.features.FeaturesDict(
    {
      'x': tfds.features.Tensor(
        shape=IMAGE.shape, dtype=np.uint8, encoding='bytes'
      ),
      'i': tfds.features.Scalar(np.int64),
    }
  )
  examples = ({'x': IMAGE, 'i': i} for i in range(count))
  return record_writer.write_set(
    root,
    'toy',
    '1.2.3',
    features,
    {'train': record_writer.Split(examples, list(lengths))},
    **options,
  )


def test_a_set_of_several_files(tmp_path, monkeypatch):
  # As for a split of more than a gigabyte, for which tfds uses TensorFlow.
  monkeypatch.setattr(shuffle, 'MAX_MEM_BUFFER_SIZE', 10)
  folder = write(tmp_path)
  assert folder == tmp_path / 'toy' / '1.2.3'
  names = sorted(path.name for path in folder.glob('*train*'))
  assert names == [f'toy-train.array_record-{i:05}-of-00003' for i in range(3)]
  builder = record_sets.open_set(folder)
  assert record_sets.check_shards(builder, 'train').lengths == (3, 2, 2)
  assert 7 * 4096 < builder.info.splits['train'].num_bytes < 7 * 4196
  examples = list(builder.as_data_source('train'))
  assert [example['i'] for example in examples] == list(range(7))
  assert all((example['x'] == IMAGE).all() for example in examples)
  named = write(tmp_path, config_name='small')
  assert named == tmp_path / 'toy' / 'small' / '1.2.3'


def test_records_are_compressed_if_asked_for(tmp_path):
  for compressed in True, False:
    folder = write(
      tmp_path / str(compressed), 100, [100], compressed=compressed
    )
    (path,) = folder.glob('*train*')
    assert (path.stat().st_size < 100 * IMAGE.nbytes) == compressed


@pytest.mark.parametrize('count', [6, 8])
def test_too_few_or_too_many_examples(tmp_path, count):
  with pytest.raises(ValueError, match="'train' .* 7 "):
    write(tmp_path, count)


def test_lengths_are_even():
  rng = np.random.default_rng(0)
  for _ in range(50):
    files = int(rng.integers(1, 20))
    count = int(rng.integers(1, 100))
    lengths = record_writer.even_lengths(
      count, files * record_writer.SHARD_BYTES
    )
    assert sum(lengths) == count and len(lengths) == min(files, count)
    assert max(lengths) - min(lengths) <= 1 and min(lengths) >= 1
