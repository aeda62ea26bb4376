"""Files in and out: MRC, TIFF, EER, gain, STAR and EPU's XML."""
