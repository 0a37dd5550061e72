"""Curation on a Ray cluster of two nodes, one of which is lost in the middle."""

import threading

import pytest

from macebench.curation.pipeline import curate


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_node_that_is_lost_in_the_middle_changes_nothing(job, raw, files_of, tmp_path, make_raw):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    more = tmp_path / "more"
    for k in range(6):
        make_raw(more / f"{k}.mp4", k, seconds=4.0)
    clean = job("clean", sources=[raw.folder, more])
    curate(clean)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        task = job("out", sources=[raw.folder, more], store="store2", workers=2, engine="ray",
                   ray_address=cluster.address)  # fmt: skip
        lost = threading.Event()

        def watch(phase, done, total):
            if phase == "sources" and done == 3 and not lost.is_set():
                lost.set()
                cluster.remove_node(node, allow_graceful=False)

        result = curate(task, watch)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert lost.is_set()
    assert result.unfinished == {}
    assert files_of(task.out) == files_of(clean.out)
