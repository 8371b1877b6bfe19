"""Find the airway of a head: from both nostrils through the nose to the pharynx.

In: a CT volume in HU. Out: a folder with the lumen, the region of space that belongs to the airway, the
planes that end it (LPS, mm) and its measures; or the statement that the nose is not patent, and where.

References
----------
Liu et al., Future Generation Computer Systems 159 (2024) 474-488.
"""
