import pytest

from launch.processes import cluster
from launch.processes.cluster import ProcessInfo, find

SLURM = {
  'SLURM_JOB_ID': '4097',
  'SLURM_STEP_NODELIST': 'node[007-009],other1',
  'SLURM_NTASKS': '16',
  'SLURM_PROCID': '11',
  'SLURM_LOCALID': '3',
}
OPEN_MPI = {
  'OMPI_MCA_orte_hnp_uri': '8192.0;tcp://10.96.0.1,10.148.0.1:34911',
  'OMPI_COMM_WORLD_SIZE': '4',
  'OMPI_COMM_WORLD_RANK': '2',
  'OMPI_COMM_WORLD_LOCAL_RANK': '0',
}


def set_variables(monkeypatch, variables):
  for name in (*SLURM, *OPEN_MPI, 'JAX_COORDINATOR_ADDRESS'):
    monkeypatch.delenv(name, raising=False)
  for name, value in variables.items():
    monkeypatch.setenv(name, value)


def test_without_flags_or_a_cluster_a_process_is_alone(monkeypatch):
  set_variables(monkeypatch, {})
  assert find(None, None, None, 9) is None


def test_slurm_says_who_this_is(monkeypatch):
  set_variables(monkeypatch, SLURM)
  found = find(None, None, None, 9)
  # The port is one of the last 4,096, by the number of the job.
  assert found == ProcessInfo(11, 16, f'node007:{65535 - 4095 + 1}', [3])


def test_open_mpi_says_who_this_is(monkeypatch):
  set_variables(monkeypatch, OPEN_MPI)
  found = find(None, None, None, 9)
  assert found == ProcessInfo(2, 4, f'10.96.0.1:{65535 - 4095 + 2}', [0])


def test_a_worker_of_a_tpu_slice_is_one_of_them(monkeypatch):
  from jax._src.clusters import cloud_tpu_cluster
  from jax._src.clusters import cluster as base

  set_variables(monkeypatch, {})
  for module in (cloud_tpu_cluster, base):
    monkeypatch.setattr(module, 'running_in_cloud_tpu_vm', True)
  # As GKE sets them; a VM is asked for the same.
  monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')
  monkeypatch.setenv('TPU_WORKER_ID', '1')
  monkeypatch.setenv('TPU_WORKER_HOSTNAMES', 'localhost,other')
  monkeypatch.setenv('MEGASCALE_NUM_SLICES', '2')
  monkeypatch.setenv('MEGASCALE_SLICE_ID', '1')
  monkeypatch.setenv('MEGASCALE_COORDINATOR_ADDRESS', 'localhost')
  found = find(None, None, None, 9)
  assert found is not None
  assert (found.rank, found.count, found.local_devices) == (3, 4, None)


def test_one_task_of_slurm_is_alone(monkeypatch):
  set_variables(monkeypatch, SLURM | {'SLURM_NTASKS': '1', 'SLURM_PROCID': '0'})
  assert find(None, None, None, 9) is None, 'a job of one would wait for others'


def test_sbatch_without_srun_is_alone(monkeypatch):
  """The batch script itself is no task, though the job has many."""
  variables = {k: v for k, v in SLURM.items() if 'STEP' not in k}
  set_variables(monkeypatch, variables)
  assert find(None, None, None, 9) is None


def test_flags_are_stronger_than_the_cluster(monkeypatch):
  set_variables(monkeypatch, SLURM)
  assert find('here:1234', 0, 2, 9) == ProcessInfo(0, 2, 'here:1234')
  assert find('here:1234', 0, 1, 9) is None


def test_a_coordinator_of_the_environment_is_taken(monkeypatch):
  set_variables(monkeypatch, SLURM | {'JAX_COORDINATOR_ADDRESS': 'here:99'})
  found = find(None, None, None, 9)
  assert found is not None and found.coordinator == 'here:99'


@pytest.mark.parametrize(
  'flags, said',
  [
    (('here:1234', None, 2), '--process_id is missing'),
    ((None, 0, 2), '--coordinator is missing'),
    (('here:1234', 0, None), '--num_processes is missing'),
    (('here', 0, 2), "--coordinator='here' must be HOST:PORT"),
    ((':80', 0, 2), 'must be HOST:PORT'),
    (('here:0', 0, 2), 'must be HOST:PORT'),
    (('here:70000', 0, 2), 'must be HOST:PORT'),
    (('here:1234', 2, 2), '--process_id=2 must be from 0 to 1'),
    (('here:1234', -1, 2), '--process_id=-1 must be from 0 to 1'),
    (('here:1234', 0, 0), '--num_processes=0 must be from 1'),
  ],
)
def test_flags_that_cannot_be(flags, said, monkeypatch):
  set_variables(monkeypatch, {})
  with pytest.raises(ValueError) as error:
    find(*flags, seconds=9)
  assert said in str(error.value)


@pytest.mark.parametrize('name', ['SLURM_NTASKS', 'SLURM_PROCID'])
def test_a_cluster_that_does_not_make_sense(name, monkeypatch):
  set_variables(monkeypatch, SLURM | {name: 'many'})
  with pytest.raises(ValueError, match='give --coordinator=HOST:PORT'):
    find(None, None, None, 9)


def test_alone_no_error_is_that_of_a_peer():
  assert not cluster.is_joined()
  assert not cluster.is_lost_peer(ValueError('Gloo all-reduce failed'))
