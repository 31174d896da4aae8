import pytest

from launch.processes import cluster
from launch.processes.cluster import ProcessInfo, process_info

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


def test_without_flags_or_a_cluster_there_is_one_process(monkeypatch):
  set_variables(monkeypatch, {})
  assert process_info(None, None, None, 9) is None


def test_slurm_gives_the_rank(monkeypatch):
  set_variables(monkeypatch, SLURM)
  found = process_info(None, None, None, 9)
  # The port is one of the last 4,096, given by the id of the job.
  assert found == ProcessInfo(11, 16, f'node007:{65535 - 4095 + 1}', [3])


def test_open_mpi_gives_the_rank(monkeypatch):
  set_variables(monkeypatch, OPEN_MPI)
  found = process_info(None, None, None, 9)
  assert found == ProcessInfo(2, 4, f'10.96.0.1:{65535 - 4095 + 2}', [0])


def test_a_tpu_slice_gives_the_rank(monkeypatch):
  from jax._src.clusters import cloud_tpu_cluster
  from jax._src.clusters import cluster as base

  set_variables(monkeypatch, {})
  for module in (cloud_tpu_cluster, base):
    monkeypatch.setattr(module, 'running_in_cloud_tpu_vm', True)
  # As GKE sets them; on a VM they come from the metadata server.
  monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')
  monkeypatch.setenv('TPU_WORKER_ID', '1')
  monkeypatch.setenv('TPU_WORKER_HOSTNAMES', 'localhost,other')
  monkeypatch.setenv('MEGASCALE_NUM_SLICES', '2')
  monkeypatch.setenv('MEGASCALE_SLICE_ID', '1')
  monkeypatch.setenv('MEGASCALE_COORDINATOR_ADDRESS', 'localhost')
  found = process_info(None, None, None, 9)
  assert found is not None
  assert (found.rank, found.count, found.local_devices) == (3, 4, None)


def test_one_task_of_slurm_is_one_process(monkeypatch):
  set_variables(monkeypatch, SLURM | {'SLURM_NTASKS': '1', 'SLURM_PROCID': '0'})
  assert process_info(None, None, None, 9) is None


def test_sbatch_without_srun_is_one_process(monkeypatch):
  """The batch script itself is not a task, although the job has many."""
  variables = {k: v for k, v in SLURM.items() if 'STEP' not in k}
  set_variables(monkeypatch, variables)
  assert process_info(None, None, None, 9) is None


def test_flags_take_precedence_over_the_cluster(monkeypatch):
  set_variables(monkeypatch, SLURM)
  assert process_info('here:1234', 0, 2, 9) == ProcessInfo(0, 2, 'here:1234')
  assert process_info('here:1234', 0, 1, 9) is None


def test_a_coordinator_of_the_environment_is_used(monkeypatch):
  set_variables(monkeypatch, SLURM | {'JAX_COORDINATOR_ADDRESS': 'here:99'})
  found = process_info(None, None, None, 9)
  assert found is not None and found.coordinator == 'here:99'


@pytest.mark.parametrize(
  'flags, name',
  [
    (('here:1234', None, 2), '--process_id'),
    ((None, 0, 2), '--coordinator'),
    (('here:1234', 0, None), '--num_processes'),
    (('here', 0, 2), "--coordinator='here'"),
    ((':80', 0, 2), "--coordinator=':80'"),
    (('here:0', 0, 2), "--coordinator='here:0'"),
    (('here:70000', 0, 2), "--coordinator='here:70000'"),
    (('here:1234', 2, 2), '--process_id=2'),
    (('here:1234', -1, 2), '--process_id=-1'),
    (('here:1234', 0, 0), '--num_processes=0'),
  ],
)
def test_invalid_flags_are_named(flags, name, monkeypatch):
  set_variables(monkeypatch, {})
  with pytest.raises(ValueError, match=name):
    process_info(*flags, timeout=9)


@pytest.mark.parametrize('name', ['SLURM_NTASKS', 'SLURM_PROCID'])
def test_a_cluster_with_invalid_variables_is_refused(name, monkeypatch):
  set_variables(monkeypatch, SLURM | {name: 'many'})
  with pytest.raises(ValueError, match='--coordinator'):
    process_info(None, None, None, 9)


def test_a_single_process_has_no_peer_failure():
  assert not cluster.is_joined()
  assert not cluster.is_peer_failure(ValueError('Gloo all-reduce failed'))
