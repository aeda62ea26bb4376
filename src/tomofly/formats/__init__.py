"""Files in and out: MRC, TIFF, EER, gain, STAR, EPU's XML, mdoc, and tilt alignments of other programs."""
