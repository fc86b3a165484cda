"""Templates of jobs: the sandboxed environment, its errors as problems in the job file, and how values become text."""
