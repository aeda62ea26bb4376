"""The suffixes of files that hold images."""

MRC_SUFFIXES = frozenset({".mrc", ".mrcs", ".map", ".st", ".ali", ".rec", ".ccp4"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".eer", ".gain", ".btf", ".tf8"})
MOVIE_SUFFIXES = MRC_SUFFIXES | TIFF_SUFFIXES
HDF5_SUFFIXES = frozenset({".h5", ".hdf5", ".hdf", ".he5", ".nxs", ".nx", ".nx5"})
