import collections

import pytest

from jaxretrieval.extract.processes import Process, resolve


def array(task, first, last, step=1, count=None):
  count = (last - first) // step + 1 if count is None else count
  fields = {'ID': task, 'MIN': first, 'MAX': last, 'STEP': step, 'COUNT': count}
  return {f'SLURM_ARRAY_TASK_{key}': str(fields[key]) for key in fields}


@pytest.mark.parametrize(
  'first, last, step', [(0, 9, 1), (1, 10, 1), (7, 7, 1), (3, 12, 3)]
)
def test_the_tasks_of_an_array_are_numbered_from_zero(first, last, step):
  found = [
    resolve(None, None, array(task, first, last, step))
    for task in range(first, last + 1, step)
  ]
  assert found == [Process(i, len(found)) for i in range(len(found))]


def test_flags_win():
  there = array(5, 3, 6)
  assert resolve(None, None, there) == (2, 4)
  assert resolve(0, None, there) == (0, 1), (
    'one flag is enough to ask none else'
  )
  assert resolve(1, 2, there) == (1, 2)


def test_a_count_alone_says_not_which_process_this_is():
  with pytest.raises(ValueError, match='--process_count=2'):
    resolve(None, 2, array(5, 3, 6))
  assert resolve(None, 1, array(5, 3, 6)) == (0, 1), 'each task is its own'


def test_without_an_array_there_is_one_process():
  assert resolve(None, None, {'SLURM_JOB_ID': '3'}) == (0, 1)


@pytest.mark.parametrize(
  'task, first, last, count', [(7, 3, 7, 2), (1, 1, 9, 4)]
)
def test_an_array_with_holes_is_refused(task, first, last, count):
  """sbatch --array=3,7: no task can know which place it has."""
  with pytest.raises(ValueError, match='SLURM_ARRAY_TASK_COUNT'):
    resolve(None, None, array(task, first, last, count=count))


@pytest.mark.parametrize('index, count', [(1, None), (3, 3), (-1, 2), (0, 0)])
def test_an_index_outside_of_the_count_is_refused(index, count):
  with pytest.raises(ValueError, match=f'--process_index={index}'):
    resolve(index, count, {})


@pytest.mark.parametrize('count', [1, 2, 7, 40, 64])
def test_every_piece_is_of_one_process(count):
  work = range(40)
  shares = [Process(i, count).share(work) for i in range(count)]
  seen = collections.Counter(piece for share in shares for piece in share)
  assert seen == dict.fromkeys(work, 1), 'a piece is lost, or done twice'
  sizes = {len(share) for share in shares}
  assert max(sizes) - min(sizes) <= 1, 'one process has more to do than others'
