"""A job of SLURM goes back into the queue before its time is over."""

from __future__ import annotations

import os
import subprocess


def requeue() -> str:
    """Puts this job, or this task of an array, back into SLURM's queue.

    Returns:
        What came of it, as a sentence.
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    try:
        answer = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
        failure = answer.stderr.strip() or f"exit code {answer.returncode}" if answer.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        failure = str(error)
    if failure:
        return f" Job {job} could not be put back into the queue (scontrol: {failure}): submit it again."
    return f" Job {job} is back in the queue."
