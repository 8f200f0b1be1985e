"""Where the data files are, for what has not moved to `harness.run` yet."""

from experiments.harness.run import data_folder as data_folder
