"""A job file, read and checked -> Job: what it says, with its defaults and the options of the command line put in."""
