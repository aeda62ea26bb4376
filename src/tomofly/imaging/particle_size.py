"""What is told to picking: the size of a particle and the scores that count."""

DEFAULT_THRESHOLD = 4.25
DEFAULT_KEEP_THRESHOLD = 3.0


def diameter_range(diameter_angstrom: float | tuple[float, float]) -> tuple[float, float]:
    """Smallest and largest diameter; ValueError where they are not in that order."""
    if isinstance(diameter_angstrom, tuple):
        smallest, largest = diameter_angstrom
    else:
        smallest = largest = float(diameter_angstrom)
    if not 0 < smallest <= largest:
        raise ValueError(f"the diameter range must be (smallest, largest) above 0 Å, not {diameter_angstrom}")
    return float(smallest), float(largest)
