"""The machinery of ct2flow: command line, configuration and the concepts that all stages share."""
