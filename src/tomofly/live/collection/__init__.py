"""Collection: what drives the stage, the shutter and the camera while frames stream."""
