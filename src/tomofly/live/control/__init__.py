"""Control: PVs turn into what reconstruction and capture do, and what they do turns into PVs."""
