"""Train every network at an equal budget and judge it on unseen heads: image, airway, cost.

In: a manifest of prepared volumes with the roles train, validation and test (HU). Out: a folder of
models, one JSON file per method and test case, and the report (JSON, Markdown, HTML). Stages meet
here through their artefacts alone; every number is that of the stage that owns it.

References
----------
.. [1] Liu et al. (2024): the reference study's networks on slice triplets.
"""
