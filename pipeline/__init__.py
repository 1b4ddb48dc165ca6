"""From a config and a data set to trained stages in a run folder. Importing this package imports nothing heavy."""
