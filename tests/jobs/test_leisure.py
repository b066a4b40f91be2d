import os
import shutil
import subprocess
import sys

import pytest

from ownvision.jobs.leisure import leisurely

linux = pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="the idle policy is Linux's")


@linux
def test_its_thread_computes_at_the_idle_policy_and_no_other_does() -> None:
    with leisurely() as at_leisure:
        assert at_leisure.submit(os.sched_getscheduler, 0).result() == os.SCHED_IDLE
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


@linux
@pytest.mark.skipif(shutil.which("setpriv") is None or os.geteuid() != 0, reason="only root can give up a capability")
def test_a_process_without_capabilities_computes_too() -> None:
    program = (
        "from ownvision.jobs.leisure import leisurely\nwith leisurely() as at: print(at.submit(sum, [1, 2]).result())"
    )
    drop = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]
    done = subprocess.run([*drop, sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"


def test_a_scheduler_that_refuses_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    with leisurely() as at_leisure:
        assert at_leisure.submit(sum, [1, 2]).result() == 3
