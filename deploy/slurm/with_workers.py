"""Run a command with Dask workers as Slurm jobs, which end with it.

python deploy/slurm/with_workers.py --jobs 10 -- imdbtune search rnn_types

jobqueue.yaml describes a job. The command gets the scheduler's address from the environment, as
``--cluster``. Dask's configuration (dask.yaml) names the certificates.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from typing import Any

from distributed.security import Security


def make_cluster(**changes: Any) -> Any:
    """A scheduler here, without workers yet; ``changes`` stand over jobqueue.yaml."""
    from dask_jobqueue import SLURMCluster

    security = Security(require_encryption=True)
    options = {"protocol": "tls://", "dashboard": False, "dashboard_address": ":0"}
    return SLURMCluster(security=security, scheduler_options=options, **changes)


def main() -> int:
    """Start the workers, run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="Slurm jobs of workers")
    parser.add_argument("--job-script", action="store_true", help="only print what is submitted")
    parser.add_argument("command", nargs="*")
    args = parser.parse_args()
    with make_cluster() as cluster:
        if args.job_script:
            print(cluster.job_script())
            return 0
        cluster.scale(jobs=args.jobs)
        environment = {**os.environ, "IMDBTUNE_SEARCH_CLUSTER": cluster.scheduler_address}
        return subprocess.run(args.command, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
