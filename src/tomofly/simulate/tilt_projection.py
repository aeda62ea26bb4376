"""What one tilt shows before the camera counts: the slab projected, with the focus of its own depth.

The matter is cut into layers across the beam, each layer is projected and given the contrast transfer
of its own defocus, and the layers are added. Points are spread with cubic B-splines, whose fall-off is
taken back in Fourier space (as in non-uniform Fourier transforms, Steidl 1998).
"""

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

from tomofly.simulate import ice, optics
from tomofly.simulate.fields import smooth_map
from tomofly.simulate.microscope import SpaMicroscope
from tomofly.simulate.particle import interaction_rad_per_volt_angstrom
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_specimen import Specimen
from tomofly.simulate.tilt_views import Views
from tomofly.simulate.truth import OpticsTruth

Array = NDArray[np.float64]
Image = NDArray[np.float32]
Spectrum = NDArray[np.complex64]

# Matter is projected on pixels of at most this size; what is finer is ice only.
COARSEST_EXACT_ANGSTROM = 4.6
# Half a layer may turn the phase of the transfer by this much at the finest detail that matters; coarse
# pixels would allow layers so thick that the focus is seen to change in steps.
LAYER_PHASE_RAD, FINEST_DETAIL_ANGSTROM = 0.5, 8.0
THICKEST_LAYER_ANGSTROM = 1000.0
SMALLEST_MARGIN_PX, MARGIN_ANGSTROM = 32, 250.0
GOLD_DARKENING, GOLD_EDGE_ANGSTROM = 0.55, 10.0
DARK, BEHIND_BAR = 0.01, 0.03
FARTHEST_BEAD_ANGSTROM = 160.0


@dataclass(frozen=True)
class Grid:
    """The simulated area: the image with a margin, on fine pixels and on ones `binning` times as large."""

    image_yx_px: tuple[int, int]
    margin_px: int
    binning: int
    pixel_size_angstrom: float

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Fine shape with margins, of a length that transforms quickly."""
        height, width = self.coarse_shape_yx
        return height * self.binning, width * self.binning

    @property
    def coarse_shape_yx(self) -> tuple[int, int]:
        """The same area in coarse pixels; even, so that the fine spectrum can take the coarse one over."""
        height, width = (
            2 * int(next_fast_len(-(-(side + 2 * self.margin_px) // (2 * self.binning)), real=True))
            for side in self.image_yx_px
        )
        return height, width

    @property
    def coarse_pixel_angstrom(self) -> float:
        """Size of a coarse pixel."""
        return self.pixel_size_angstrom * self.binning

    @property
    def centre_yx_px(self) -> Array:
        """Where the image's centre, index n // 2, lies in fine pixels of the area."""
        return np.array([side // 2 + self.margin_px for side in self.image_yx_px], dtype=float)

    def crop(self, area: Image) -> Image:
        """The image (y, x) without its margins."""
        height, width = self.image_yx_px
        return area[self.margin_px : self.margin_px + height, self.margin_px : self.margin_px + width]


def make_grid(config: TiltSeriesConfig, margin_angstrom: float = 0.0) -> Grid:
    """The area to simulate, with room for what moves in from up to `margin_angstrom` outside."""
    pixel = config.pixel_size_angstrom
    margin = SMALLEST_MARGIN_PX + int((MARGIN_ANGSTROM + margin_angstrom) / pixel)
    return Grid(config.detector_yx_px, margin, max(1, int(COARSEST_EXACT_ANGSTROM / pixel)), pixel)


def voxel_angstrom(grid: Grid) -> float:
    """Size of the voxels whose residues one bead may stand for on this grid."""
    return float(np.clip(0.7 * grid.coarse_pixel_angstrom, 3.0, 12.0))


@nb.njit(cache=True, nogil=True, fastmath=True)
def _spread(
    layers: NDArray[np.float32],
    centre_xyd: NDArray[np.float32],
    turn: NDArray[np.float32],
    model: NDArray[np.int32],
    beads: NDArray[np.float32],
    weight: NDArray[np.float32],
    first_bead: NDArray[np.int64],
) -> None:
    """Add the beads of all copies to `layers` (layer, y, x), each as a cubic B-spline of its weight.

    `centre_xyd` (copy, 3) is in pixels and layers from their first index, `turn` (copy, 3, 3) takes beads
    (bead, 3) in Å to the same units.
    """
    depths, height, width = layers.shape
    along_y, along_x = np.empty(4, np.float32), np.empty(4, np.float32)
    for copy in range(centre_xyd.shape[0]):
        r = turn[copy]
        for bead in range(first_bead[model[copy]], first_bead[model[copy] + 1]):
            bx, by, bz = beads[bead, 0], beads[bead, 1], beads[bead, 2]
            x = centre_xyd[copy, 0] + r[0, 0] * bx + r[0, 1] * by + r[0, 2] * bz
            y = centre_xyd[copy, 1] + r[1, 0] * bx + r[1, 1] * by + r[1, 2] * bz
            d = centre_xyd[copy, 2] + r[2, 0] * bx + r[2, 1] * by + r[2, 2] * bz
            x0, y0 = int(np.floor(x)), int(np.floor(y))
            if x0 < 1 or y0 < 1 or x0 > width - 3 or y0 > height - 3:
                continue
            layer = min(max(int(d), 0), depths - 1)
            _cubic_weights(y - np.float32(y0), along_y)
            _cubic_weights(x - np.float32(x0), along_x)
            for i in range(4):
                row = weight[bead] * along_y[i]
                for j in range(4):
                    layers[layer, y0 - 1 + i, x0 - 1 + j] += row * along_x[j]


@nb.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _cubic_weights(t: np.float32, out: NDArray[np.float32]) -> None:
    """Fill `out` (4,) with the cubic B-splines around a place, `t` beyond the second one."""
    u = np.float32(1) - t
    out[0] = u * u * u * np.float32(1 / 6)
    out[1] = np.float32(2 / 3) - t * t * (np.float32(1) - np.float32(0.5) * t)
    out[2] = np.float32(2 / 3) - u * u * (np.float32(1) - np.float32(0.5) * u)
    out[3] = t * t * t * np.float32(1 / 6)


class TiltProjector:
    """Makes the images of one series tilt by tilt; may be used from several threads."""

    def __init__(
        self, config: TiltSeriesConfig, series: int, specimen: Specimen, views: Views, grid: Grid
    ) -> None:
        self._config, self._series = config, series
        self._specimen, self._views, self.grid = specimen, views, grid
        wavelength = optics.wavelength_angstrom(config.voltage_kv)
        self._per_volt = interaction_rad_per_volt_angstrom(config.voltage_kv, wavelength)
        finest = 1 / max(FINEST_DETAIL_ANGSTROM, 2 * grid.coarse_pixel_angstrom)
        exact = 2 * LAYER_PHASE_RAD / (np.pi * wavelength * finest**2)
        self._layer_angstrom = min(THICKEST_LAYER_ANGSTROM, exact)

    def intensity(self, tilt: int, *, as_spline: bool = False) -> Image:
        """Expected brightness (y, x) of the area with its margins: 1 where the full beam arrives.

        `as_spline` gives the coefficients of the cubic B-spline instead, exact but for the edges of gold.
        """
        brightness = self.contrast(tilt, as_spline=as_spline)
        brightness += 1
        brightness *= self.transmission(tilt)
        return brightness

    def transmission(self, tilt: int) -> Image:
        """The part (y, x) of the beam that passes: less through the tilted slab, gold, and obstacles."""
        views, config, grid = self._views, self._config, self.grid
        passed = np.full(grid.shape_yx, np.exp(-self._path(tilt) / config.mean_free_path_angstrom))
        through = passed.astype(np.float32)
        places = views.place(tilt, self._specimen.gold_xyz_angstrom, self._dose(tilt))
        radius = config.gold_diameter_angstrom / 2
        for x, y in places[:, :2] / grid.pixel_size_angstrom + grid.centre_yx_px[::-1]:
            _darken_disc(
                through,
                (y, x),
                radius / grid.pixel_size_angstrom,
                GOLD_EDGE_ANGSTROM / grid.pixel_size_angstrom,
            )
        if tilt in config.dark_tilts:
            through *= np.float32(DARK)
        if tilt in config.blocked_tilts:
            through *= self._bar(tilt)
        return through

    def contrast(self, tilt: int, *, as_spline: bool = False) -> Image:
        """The image (y, x) of the matter about a mean of 0, relative to the beam that passes."""
        config, grid = self._config, self.grid
        lens = self._views.optics[tilt]
        spectrum = self._matter_spectrum(tilt, lens)
        if grid.binning > 1:
            random = config.random("fine ice", self._series, tilt)
            spectrum = self._with_fine_ice(spectrum, tilt, lens, random)
        if as_spline:
            spectrum *= _spline_filter(np.fft.fftfreq(grid.shape_yx[0]))[:, None]
            spectrum *= _spline_filter(np.fft.rfftfreq(grid.shape_yx[1]))
        contrast: Image = irfft2(spectrum, s=grid.shape_yx, overwrite_x=True)
        return contrast

    def _dose(self, tilt: int) -> float:
        """Dose at the middle of a tilt."""
        return float(self._views.dose_before_e_per_a2[tilt] + self._config.dose_per_tilt_e_per_a2 / 2)

    def _path(self, tilt: int) -> float:
        """Way of the beam through the slab, Å."""
        return self._config.thickness_angstrom / max(0.1, abs(float(self._views.rotations[tilt, 2, 2])))

    def _bar(self, tilt: int) -> Image:
        """A grid bar (y, x) that covers half of the field or more."""
        random = self._config.random("bar", self._series, tilt)
        height, width = self.grid.shape_yx
        angle, depth = random.uniform(0, 2 * np.pi), random.uniform(0.0, 0.2) * min(height, width)
        y, x = np.ogrid[:height, :width]
        inward = (y - height / 2) * np.sin(angle) + (x - width / 2) * np.cos(angle) + depth
        bar: Image = np.clip(1 - inward / (0.02 * width), BEHIND_BAR, 1).astype(np.float32)
        return bar

    def _matter_spectrum(self, tilt: int, lens: OpticsTruth) -> Spectrum:
        """Half spectrum (y, x) of the coarse image, scaled as that of the fine one."""
        layers, edges = self._layers(tilt)
        grid, config = self.grid, self._config
        noise = self._coarse_ice(tilt)
        depth = self._slab_depth(tilt)
        matter = np.zeros((grid.coarse_shape_yx[0], grid.coarse_shape_yx[1] // 2 + 1), dtype=np.complex64)
        water = np.zeros_like(matter)
        for number, layer in enumerate(layers):
            middle = 0.5 * (edges[number] + edges[number + 1])
            transfer = optics.transfer(
                _refocused(lens, config.hand * middle), grid.coarse_shape_yx, grid.coarse_pixel_angstrom
            )
            transfer[0, 0] = 0  # Mean phase is no contrast; the mean brightness is the transmission's.
            matter += rfft2(layer, overwrite_x=True) * transfer
            # Outside the specimen's depths the outermost layer takes the ice, too.
            low = -np.inf if number == 0 else edges[number]
            high = np.inf if number == len(layers) - 1 else edges[number + 1]
            water += rfft2(np.where((depth >= low) & (depth < high), noise, np.float32(0))) * transfer
        matter *= self._form_factor(tilt)
        matter += water
        matter *= np.float32(grid.binning**2)
        return matter

    def _layers(self, tilt: int) -> tuple[Image, Array]:
        """Projected phase (layer, y, x) in radians, and the depths (layer + 1,) in Å between the layers."""
        grid, matter = self.grid, self._specimen.matter
        places = self._views.place(tilt, matter.xyz_angstrom, self._dose(tilt))
        pixel = grid.coarse_pixel_angstrom
        places[:, :2] += grid.centre_yx_px[::-1] * grid.pixel_size_angstrom
        height, width = grid.coarse_shape_yx
        limits = np.array([width, height]) * pixel + FARTHEST_BEAD_ANGSTROM
        seen = np.all((places[:, :2] > -FARTHEST_BEAD_ANGSTROM) & (places[:, :2] < limits), axis=1)
        edges = self._edges(tilt, places[seen, 2])
        layers = np.zeros((len(edges) - 1, height, width), dtype=np.float32)
        unit = np.array([pixel, pixel, edges[1] - edges[0]])
        places[:, 2] -= edges[0]
        turn = (self._views.rotations[tilt] / unit[:, None]).astype(np.float32) @ matter.turn[seen]
        _spread(
            layers, (places[seen] / unit).astype(np.float32), turn, matter.model[seen],
            matter.bead_xyz_angstrom, matter.bead_weight, matter.first_bead,
        )  # fmt: skip
        layers *= np.float32(self._per_volt / pixel**2)
        return layers, edges

    def _edges(self, tilt: int, depths: Array) -> Array:
        """Depths (layer + 1,) that cut the matter in view, or the slab's middle plane, into equal layers."""
        plane = self._slab_depth(tilt)
        low = min([float(plane.min()), *depths[:: max(1, len(depths) // 5000)]])
        high = max([float(plane.max()), *depths[:: max(1, len(depths) // 5000)]])
        count = max(1, int(np.ceil((high - low) / self._layer_angstrom)))
        return np.linspace(low, high + 1e-3, count + 1)

    def _slab_depth(self, tilt: int) -> Array:
        """Depth (y, x) in Å of the slab's middle plane on the coarse grid."""
        grid = self.grid
        normal = self._views.rotations[tilt, :, 2]
        height, width = grid.coarse_shape_yx
        centre = grid.centre_yx_px / grid.binning
        y = (np.arange(height)[:, None] - centre[0]) * grid.coarse_pixel_angstrom
        x = (np.arange(width)[None, :] - centre[1]) * grid.coarse_pixel_angstrom
        y, x = y + self._views.shift_yx_angstrom[tilt, 0], x + self._views.shift_yx_angstrom[tilt, 1]
        slope = np.sign(normal[2]) * max(0.1, abs(normal[2]))
        return np.asarray(-(normal[0] * x + normal[1] * y) / slope)

    def _form_factor(self, tilt: int) -> Image:
        """What to make of spread beads (y, x): B-splines taken back, beads of their size, damage."""
        grid, config = self.grid, self._config
        ky = np.fft.fftfreq(grid.coarse_shape_yx[0])[:, None]
        kx = np.fft.rfftfreq(grid.coarse_shape_yx[1])[None, :]
        k = np.hypot(ky, kx) / grid.coarse_pixel_angstrom
        factor = (np.sinc(ky) * np.sinc(kx)) ** -4.0
        variance = 1.3**2 + voxel_angstrom(grid) ** 2 / 24
        factor *= np.exp(-2 * np.pi**2 * variance * k**2)
        if config.damage:
            factor *= np.exp(-self._dose(tilt) / (2 * optics.critical_dose_e_per_a2(k, config.voltage_kv)))
        return np.asarray(factor, dtype=np.float32)

    def _coarse_ice(self, tilt: int) -> Image:
        """Phase (y, x) of the ice's own granularity, new in each tilt as water does not stand still."""
        grid, config = self.grid, self._config
        microscope = config.ice_microscope(self._path(tilt), grid.coarse_pixel_angstrom)
        axis = optics.RadialAxis(grid.coarse_shape_yx, grid.coarse_pixel_angstrom)
        water = ice.Ice(microscope, grid.coarse_shape_yx, axis, config.random("ice", self._series, tilt))
        noise: Image = irfft2(water.after(0.0), s=grid.coarse_shape_yx)
        return noise

    def _with_fine_ice(
        self, coarse: Spectrum, tilt: int, lens: OpticsTruth, random: np.random.Generator
    ) -> Spectrum:
        """Set the coarse half spectrum into the fine one (y, x), with ice beyond its reach."""
        grid, config = self.grid, self._config
        axis = optics.RadialAxis(grid.shape_yx, grid.pixel_size_angstrom)
        microscope = config.ice_microscope(self._path(tilt), grid.pixel_size_angstrom)
        water = ice.Ice(microscope, grid.shape_yx, axis, random).after(0.0)
        water *= optics.transfer(lens, grid.shape_yx, grid.pixel_size_angstrom)
        half, wide = coarse.shape[0] // 2, coarse.shape[1] - 1
        water[:half, :wide], water[-half + 1 :, :wide] = coarse[:half, :wide], coarse[half + 1 :, :wide]
        return water


def _spline_filter(cycles_per_px: NDArray[np.floating]) -> Image:
    """Turns samples into coefficients of the cubic B-spline through them (Unser 1999)."""
    return np.asarray(3 / (2 + np.cos(2 * np.pi * cycles_per_px)), dtype=np.float32)


def _refocused(lens: OpticsTruth, defocus_angstrom: float) -> OpticsTruth:
    """The same lens with its focus changed."""
    return lens.model_copy(
        update={
            "defocus_u_angstrom": lens.defocus_u_angstrom + defocus_angstrom,
            "defocus_v_angstrom": lens.defocus_v_angstrom + defocus_angstrom,
        }
    )


def _darken_disc(image: Image, centre_yx: tuple[float, float], radius_px: float, edge_px: float) -> None:
    """Take gold's share of the beam away in a soft disc, as far as it is in the image (y, x)."""
    reach = radius_px + edge_px + 1
    top, left = (max(0, int(at - reach)) for at in centre_yx)
    bottom, right = (max(0, int(at + reach) + 2) for at in centre_yx)
    part = image[top:bottom, left:right]
    y, x = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
    distance = np.hypot(y - centre_yx[0], x - centre_yx[1])
    part *= (1 - GOLD_DARKENING * np.clip(0.5 + (radius_px - distance) / max(edge_px, 1.0), 0, 1)).astype(
        np.float32
    )


def illumination(config: TiltSeriesConfig) -> Image:
    """The beam's unevenness (y, x) about 1, which stands still on the camera through the session."""
    return camera_pattern(config.camera_microscope(), config.illumination_variation)


def camera_pattern(microscope: SpaMicroscope, variation: float) -> Image:
    """A smooth pattern (y, x) about 1 with a standard deviation of `variation`."""
    pattern = smooth_map(microscope.random("illumination"), microscope.frame_yx_px)
    even: Image = (1 + np.float32(variation) * np.clip(pattern, -3, 3)).astype(np.float32)
    return even
