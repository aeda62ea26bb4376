"""Picks above another threshold than the session's: every candidate has been kept with its score."""

import pandas as pd

from tomofly.model import TomoflyError
from tomofly.services.exports.export import Draft
from tomofly.store.browse import BrowsedItem


def candidates_above(draft: Draft, item: BrowsedItem, stage: str, threshold: float) -> pd.DataFrame:
    """Read the candidates of an item that score so high.

    Candidates are as far apart as picks must be, so that leaving out the lower ones is all there is to do.
    """
    product = item.products.get((stage, "candidates"))
    if product is None:
        return pd.DataFrame({"score": []})
    try:
        table = pd.read_csv(draft.scope.folder / product)
    except (OSError, ValueError) as error:
        raise TomoflyError(
            f"The candidates of {item.key} cannot be read: {error}", "Clear the track and export again"
        ) from error
    return table[table["score"] >= threshold]
