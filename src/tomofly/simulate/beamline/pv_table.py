"""The PVs of the simulated beamline, one row each; names are those of areaDetector, tomoScan and motors."""

from dataclasses import dataclass
from enum import StrEnum

from tomofly.simulate.beamline.autopilot import PATTERNS
from tomofly.simulate.beamline.camera import IMAGE_MODES, TRIGGER_MODES
from tomofly.simulate.beamline.codecs import CODECS
from tomofly.simulate.beamline.faults import BLANKS, DROP_MODES

Choices = tuple[str, ...]


class Kind(StrEnum):
    """How a PV's value looks."""

    NUMBER = "number"
    WHOLE = "whole"
    CHOICE = "choice"
    SWITCH = "switch"
    TEXT = "text"


@dataclass(frozen=True)
class Row:
    """One PV. `order`: writing acts; `readback`: shows how it is; neither: keeps what is written.

    `lasting`: a put with completion waits until what it began is over.
    """

    name: str
    kind: Kind
    meaning: str
    choices: Choices = ()
    order: bool = False
    readback: bool = False
    lasting: bool = False
    initial: float | str = 0
    low: float | None = None
    high: float | None = None


NO_YES = ("No", "Yes")
DATA_TYPES = (
    "Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float32", "Float64",
)  # fmt: skip
PIXEL_TYPES = {1: "uint8", 3: "uint16", 8: "float32"}
"""Which of areaDetector's data types this camera has."""
FRAME_TYPES = ("DarkField", "FlatField", "Projection", "Automatic")
NUMBER, WHOLE, CHOICE, SWITCH, TEXT = Kind.NUMBER, Kind.WHOLE, Kind.CHOICE, Kind.SWITCH, Kind.TEXT

CAMERA = (
    Row("Acquire", SWITCH, "1: take frames; 0: stop", ("Done", "Acquire"), order=True),
    Row("AcquireBusy", SWITCH, "1 while frames are taken", ("Done", "Acquiring"), readback=True),
    Row("DetectorState_RBV", CHOICE, "What the camera does", ("Idle", "Acquire"), readback=True),
    Row("StatusMessage_RBV", TEXT, "What the camera does", readback=True),
    Row("AcquireTime", NUMBER, "Exposure, s", order=True, low=1e-5, high=60),
    Row("AcquireTime_RBV", NUMBER, "Exposure, s", readback=True),
    Row("AcquirePeriod", NUMBER, "Time from frame to frame, s", order=True, low=1e-4, high=3600),
    Row("AcquirePeriod_RBV", NUMBER, "Time from frame to frame, s", readback=True),
    Row("FrameRate", NUMBER, "Frames per second", order=True, low=1e-3, high=10000),
    Row("FrameRate_RBV", NUMBER, "Frames per second, measured", readback=True),
    Row("FrameRateEnable", SWITCH, "Not used: the period always holds", NO_YES, initial=1),
    Row("ImageMode", CHOICE, "How many frames", IMAGE_MODES, order=True, initial=2),
    Row("ImageMode_RBV", CHOICE, "How many frames", IMAGE_MODES, readback=True),
    Row("NumImages", WHOLE, "Frames of the mode Multiple", order=True, low=1, high=2**31 - 1),
    Row("NumImages_RBV", WHOLE, "Frames of the mode Multiple", readback=True),
    Row("NumImagesCounter_RBV", WHOLE, "Frames of this series", readback=True),
    Row("ArrayCounter_RBV", WHOLE, "Frames since the start", readback=True),
    Row("TriggerMode", CHOICE, "What begins an exposure; External: the stage", TRIGGER_MODES, order=True),
    Row("TriggerMode_RBV", CHOICE, "What begins an exposure", TRIGGER_MODES, readback=True),
    Row("TriggerSoftware", SWITCH, "1: expose, in the mode Software", NO_YES, order=True),
    Row("TriggerSource", CHOICE, "Not used", ("Software", "Line0", "Line1", "Line2")),
    Row("TriggerOverlap", CHOICE, "Not used", ("Off", "ReadOut")),
    Row("ExposureMode", CHOICE, "Not used", ("Timed", "TriggerWidth")),
    Row("SizeX", WHOLE, "Columns, unbinned", order=True, low=8),
    Row("SizeY", WHOLE, "Rows, unbinned", order=True, low=1),
    Row("MinX", WHOLE, "First column", order=True, low=0),
    Row("MinY", WHOLE, "First row", order=True, low=0),
    Row("BinX", WHOLE, "Pixels added up along x, and along y", order=True, low=1, high=8),
    Row("BinY", WHOLE, "The same as BinX", order=True, low=1, high=8),
    Row("SizeX_RBV", WHOLE, "Columns, unbinned", readback=True),
    Row("SizeY_RBV", WHOLE, "Rows, unbinned", readback=True),
    Row("BinX_RBV", WHOLE, "Pixels added up", readback=True),
    Row("BinY_RBV", WHOLE, "Pixels added up", readback=True),
    Row("MaxSizeX_RBV", WHOLE, "Columns of the sensor", readback=True),
    Row("MaxSizeY_RBV", WHOLE, "Rows of the sensor", readback=True),
    Row("ArraySizeX_RBV", WHOLE, "Columns of a frame", readback=True),
    Row("ArraySizeY_RBV", WHOLE, "Rows of a frame", readback=True),
    Row("DataType", CHOICE, "Number type: UInt8, UInt16, Float32", DATA_TYPES, order=True),
    Row("DataType_RBV", CHOICE, "Number type", DATA_TYPES, readback=True),
    Row("ColorMode_RBV", CHOICE, "Always Mono", ("Mono",)),
    Row("ArrayCallbacks", SWITCH, "1: hand frames on", ("Disable", "Enable"), order=True, initial=1),
    Row("UniqueIdMode", CHOICE, "Camera: ids begin anew with a series", ("Camera", "Driver"), initial=1),
    Row("WaitForPlugins", SWITCH, "Not used", NO_YES),
    Row("NDAttributesFile", TEXT, "Not used: the attributes are fixed"),
    Row("Gain", NUMBER, "Not used"),
    Row("PortName_RBV", TEXT, "Name of the port", initial="SIM"),
    Row("Manufacturer_RBV", TEXT, "Who made it", initial="simulated"),
    Row("Model_RBV", TEXT, "What it is", initial="beamline"),
    Row("FrameType", CHOICE, "FrameType of frames; Automatic: what is seen", FRAME_TYPES, initial=3),
)  # fmt: skip
"""After the camera's prefix and cam1:"""

PVA_PLUGIN = (
    Row("EnableCallbacks", SWITCH, "1: send frames", ("Disable", "Enable"), order=True, initial=1),
    Row("NDArrayPort", TEXT, "Where frames come from", initial="SIM"),
    Row("PvName_RBV", TEXT, "Channel of the frames", readback=True),
    Row("ArrayCounter_RBV", WHOLE, "Frames sent", readback=True),
    Row("DroppedArrays_RBV", WHOLE, "Frames lost on request", readback=True),
    Row("UniqueId_RBV", WHOLE, "Id of the last frame", readback=True),
    Row("DataType_RBV", CHOICE, "Number type", DATA_TYPES, readback=True),
)
"""After the camera's prefix and Pva1:"""

ROI_PLUGIN = (
    Row("EnableCallbacks", SWITCH, "1: bin", ("Disable", "Enable"), order=True, initial=1),
    Row("NDArrayPort", TEXT, "Where frames come from", initial="SIM"),
    Row("BinX", WHOLE, "Pixels added up along x, and along y", order=True, initial=1, low=1, high=8),
    Row("BinY", WHOLE, "The same as BinX", order=True, initial=1, low=1, high=8),
    Row("Scale", NUMBER, "What sums are divided by", order=True, initial=1, low=1e-6),
)
"""After the camera's prefix and ROI1:"""

DEVICES = (
    Row("A_shutter:open", SWITCH, "1: open the shutter", NO_YES, order=True, lasting=True),
    Row("A_shutter:close", SWITCH, "1: close the shutter", NO_YES, order=True, lasting=True),
    Row("A_shutter:status", CHOICE, "The shutter", ("Closed", "Open", "Moving"), readback=True),
    Row("fast_shutter:open", SWITCH, "1: open the fast shutter", NO_YES, order=True, lasting=True),
    Row("fast_shutter:close", SWITCH, "1: close the fast shutter", NO_YES, order=True, lasting=True),
    Row("fast_shutter:status", CHOICE, "The fast shutter", ("Closed", "Open", "Moving"), readback=True),
    Row("MCTOptics:LensSelect", CHOICE, "The lens", ("Lens 0", "Lens 1", "Lens 2"), order=True),
    Row("MCTOptics:ImagePixelSize", NUMBER, "Unbinned pixel on the sample, um", readback=True),
    Row("PSO:Start", NUMBER, "An angle of the mode External, deg", order=True),
    Row("PSO:Step", NUMBER, "Degrees from frame to frame then", order=True, initial=1, low=1e-4),
)
"""After the beamline's prefix."""

SIMULATION = (
    Row("Pattern", CHOICE, "How the stage turns by itself", PATTERNS, order=True),
    Row("Speed", NUMBER, "Speed of the patterns, deg/s", order=True, low=1e-3),
    Row("StartEvent", SWITCH, "1: the crack begins to open", NO_YES, order=True),
    Row("DropMode", CHOICE, "Which frames are lost", DROP_MODES, order=True),
    Row("DropShare", NUMBER, "Probability of the mode random", order=True, initial=0.01, low=0, high=1),
    Row("DropPeriod", WHOLE, "Frames from loss to loss", order=True, initial=100, low=1),
    Row("DropBurst", WHOLE, "Losses in a row of the mode burst", order=True, initial=5, low=1),
    Row("Wrap16", SWITCH, "1: ids of 16 bits", NO_YES, order=True),
    Row("RestartIds", SWITCH, "1: begin anew with the first id", NO_YES, order=True),
    Row("Freeze", SWITCH, "1: the camera hangs", NO_YES, order=True),
    Row("Duplicate", SWITCH, "1: send the next frame twice", NO_YES, order=True),
    Row("Swap", SWITCH, "1: send the next two frames in wrong order", NO_YES, order=True),
    Row("Codec", CHOICE, "Compression", CODECS, order=True),
    Row("Blank", CHOICE, "Frames without content", BLANKS, order=True),
    Row("Sent_RBV", WHOLE, "Frames sent", readback=True),
    Row("Dropped_RBV", WHOLE, "Frames lost on request", readback=True),
    Row("Skipped_RBV", WHOLE, "Frames that could not be made in time", readback=True),
    Row("Late_RBV", NUMBER, "Last frame: sent so long after its end, ms", readback=True),
    Row("Load_RBV", NUMBER, "Processor time of the camera, %", readback=True),
    Row("EventBegins_RBV", NUMBER, "POSIX time of the crack's begin; 0: none", readback=True),
)
"""After the beamline's prefix and Sim:"""
