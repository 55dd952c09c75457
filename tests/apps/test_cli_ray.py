"""A cluster of two nodes on this machine; one is killed while both work."""

import json

import pytest

from unprompted.apps.batch import cluster

ray = pytest.importorskip("ray", reason="needs the extra [ray]")
CASES = 6


def crew_that(when_both_are_busy):
    """A crew that does something, once, as soon as two workers have cases; nothing is sent meanwhile."""

    class WatchedCrew(cluster.RayCrew):
        def __init__(self, *words):
            super().__init__(*words)
            self.busy = set()

        def send(self, worker, case):
            super().send(worker, case)
            if len(self.busy) < 2:
                self.busy.add(worker)
                if len(self.busy) == 2:
                    when_both_are_busy()

    return WatchedCrew


@pytest.fixture
def two_nodes(monkeypatch):
    """A cluster of two nodes of one core, and the one that can be killed."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # at 15, its default, a busy machine would starve the test
    small = {"object_store_memory": 80 * 2**20}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **small})
    yield nodes, nodes.add_node(num_cpus=1, **small)
    ray.shutdown()
    nodes.shutdown()


def test_all_cases_arrive_once_though_one_node_of_two_is_killed(
    call, case_folder, fast, two_nodes, tmp_path, write_case, monkeypatch
):
    nodes, second = two_nodes
    crew = crew_that(lambda: nodes.remove_node(second, allow_graceful=False))
    monkeypatch.setattr(cluster, "RayCrew", crew)
    names = [f"query-{seed}" for seed in range(3, 3 + CASES)]
    for seed, name in enumerate(names, 3):
        write_case(case_folder / "queries" / f"{name}.nii.gz", None, seed)

    out, report = tmp_path / "out", tmp_path / "report.json"
    words = ("segment", "-s", case_folder / "support", "-i", case_folder / "queries", *fast)
    ended = call(*words, "-o", f"file://{out}", "--ray", nodes.address, "--report", report)
    assert ended.code == 0, ended.err
    assert "cluster    2 workers on 2 nodes" in ended.out
    assert "of the cluster died; another takes its place" in ended.out
    cases = json.loads(report.read_text())["cases"]
    assert sorted(case["case"] for case in cases) == sorted(names)
    assert {case["status"] for case in cases} == {"written"}
    assert sorted(path.name for path in out.glob("*.nii.gz")) == sorted(f"{name}.nii.gz" for name in names)

    assert call(*words, "-o", tmp_path / "here").code == 0  # an undisturbed run on one machine
    for name in names:
        there, here = out / f"{name}.nii.gz", tmp_path / "here" / f"{name}.nii.gz"
        assert there.read_bytes() == here.read_bytes()


def test_no_cluster_at_the_address_exits_2(call, case_folder, fast, tmp_path):
    words = ("segment", "-s", case_folder / "support", "-i", case_folder / "queries", "-o", tmp_path / "out")
    ended = call(*words, *fast, "--ray", "localhost:1")
    assert ended.code == 2
    assert "no Ray cluster answers at 'localhost:1'" in ended.err
