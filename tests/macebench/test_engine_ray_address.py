"""`run_jobs` on an existing Ray cluster: how it is reached, and what a lost node costs."""

import sys
import types

import pytest

from macebench.engine import Work, run_jobs
from macebench.errors import UserError


def fake_ray(monkeypatch, error=None):
    """A module that notes how it is started; starting it raises `error`, or `Stop`."""
    calls = []

    def init(**how):
        calls.append(how)
        raise error or RuntimeWarning("stop here")

    ray = types.SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setitem(sys.modules, "ray", ray)
    return calls


def test_without_an_address_a_cluster_is_started_here(monkeypatch):
    calls = fake_ray(monkeypatch)
    with pytest.raises(RuntimeWarning):
        list(run_jobs(Work(len), ["x"] * 3, workers=2, engine="ray"))
    assert calls == [{"num_cpus": 2, "include_dashboard": False, "log_to_driver": False}]


@pytest.mark.parametrize("error", [ConnectionError("nobody"), ValueError("no port"), RuntimeError("gone")])
def test_a_cluster_that_does_not_answer_is_named(monkeypatch, error):
    calls = fake_ray(monkeypatch, error)
    with pytest.raises(UserError, match="no Ray cluster answers at auto") as caught:
        list(run_jobs(Work(len), ["x"], engine="ray", ray_address="auto"))
    assert "ray start --head" in caught.value.hint
    assert calls[0]["address"] == "auto"
