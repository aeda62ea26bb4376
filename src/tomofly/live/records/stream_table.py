"""The PVs of live reconstruction, under the names that tomoStream's clients know, and added ones."""

from tomofly.live.records.pv import PV, Record, counters, readbacks, strings

AO, BO, BUSY, LONGOUT = Record.AO, Record.BO, Record.BUSY, Record.LONGOUT
MBBO, MBBI, BI, TEXT, CALCOUT = Record.MBBO, Record.MBBI, Record.BI, Record.TEXT, Record.CALCOUT
NO_YES = ("No", "Yes")

CHANNELS = (
    *strings((
        ("TomoScanPVPrefix", "", "Prefix of collection"),
        ("ImagePVAPName", "", "PV that holds the prefix of the camera's PVA plugin"),
        ("DarkPVAName", "", "Channel of the dark field"),
        ("FlatPVAName", "", "Channel of the flat field"),
        ("ThetaPVAName", "", "Channel of the angles"),
        ("ReconPVAName", "", "Channel of the three slices"),
        ("MctOpticsPVPrefix", "", "Prefix of the optics"),
        ("SampleTomo0degPVName", "",
           "Motor under the rotation that moves the sample across the beam at 0 deg"),
        ("SampleTomo90degPVName", "",
           "Motor under the rotation that moves the sample across the beam at 90 deg"),
        ("SampleYPVName", "", "Motor that moves the sample along the axis"),
        ("RoiPluginPVPrefix", "", "Prefix of the ROI plugin before the PVA plugin"),
    ), saved=False),
    PV("LensChangeSync", BO, "Yes: put the crossing of the slices into the middle when the lens changes",
       choices=NO_YES, saved=True),
)  # fmt: skip

PARAMETERS = (
    PV("Center", AO, "Rotation centre (0 is the middle of the first pixel)", 0.0, 0, 16_384, "binned px",
       saved=True),
    PV("CenterTweak", AO, "Step of the tweak buttons", 1.0, 0, 1000, "binned px", saved=True),
    PV("CenterTweakUp", CALCOUT, "Processed: Center += CenterTweak", formula="A+B",
       inputs=("Center", "CenterTweak"), target="Center"),
    PV("CenterTweakDown", CALCOUT, "Processed: Center -= CenterTweak", formula="A-B",
       inputs=("Center", "CenterTweak"), target="Center"),
    PV("FilterType", MBBO, "Filter of the projections", 0, saved=True,
       choices=("Parzen", "Shepp-logan", "Ramp", "Butterworth", "Hann", "Hamming", "Cosine")),
    PV("Dezinger", MBBO, "Radius of the median that takes out outliers", 0, choices=("None", "Radius 2",
       "Radius 3",
       "Radius 4"), raw=(0, 2, 3, 4), saved=True),
    PV("RingRemoval", MBBO, "Ring removal: fw takes out what stays at one place of the detector", 0,
       choices=("None", "fw"), saved=True),
    PV("OrthoX", LONGOUT, "Position of the X slice", 0, 0, 2448, "binned px", saved=True),
    PV("OrthoY", LONGOUT, "Position of the Y slice", 0, 0, 2448, "binned px", saved=True),
    PV("OrthoZ", LONGOUT, "Position of the Z slice", 0, 0, 2448, "binned px", saved=True),
    PV("RotX", AO, "Rotation of the plane of the X slice", 0.0, -180, 180, "deg", saved=True),
    PV("RotY", AO, "Rotation of the plane of the Y slice", 0.0, -180, 180, "deg", saved=True),
    PV("RotZ", AO, "Tilt of the plane of the Z slice", 0.0, -180, 180, "deg", saved=True),
    PV("Energy", AO, "Energy of the X-rays", 20.0, 1, 100, "keV", saved=True),
    PV("Distance", AO, "Distance from sample to detector", 0.0, 0, 5000, "mm", saved=True),
    PV("Alpha", AO, "Strength of the Paganin filter; 0: off", 0.0, 0, 10_000, saved=True),
    PV("PixelSize", AO, "Size of a pixel in the sample; 0: not known", 0.0, 0, 1000, "um", 6, saved=True),
)  # fmt: skip

STATE = (
    PV("ReconStatus", TEXT, "What reconstruction does: Running, Stopped or Aborting", "Stopped",
       readback=True),
    PV("ReconTime", AO, "Time of the last computation of the slices", 0.0, unit="s", precision=5,
       readback=True),
    PV("BufferSize", Record.STRINGOUT, "New projections in the last output / projections of the window",
       "0/0",
       readback=True),
    PV("Watchdog", CALCOUT, "Set to 5 by the program every 3 s; counts down each second",
       formula="A>0?A-1:0", inputs=("Watchdog",), target="ServerRunning"),
    PV("ServerRunning", BI, "Whether the program is at work", 0, choices=("Stopped", "Running"),
       severities=("MAJOR", "NO_ALARM"), readback=True),
    PV("StartRecon", BUSY, "1: reconstruct; back to 0 when it has stopped", choices=("Done", "Acquire")),
    PV("AbortRecon", BO, "Written 0 (a button released): stop reconstructing", 1, choices=NO_YES,
       command=True),
)  # fmt: skip

ADDED = (
    PV("WindowLength", AO, "Length of the window of projections", 0.5, 0.05, 8, "turns", saved=True),
    PV("AutoCenter", BUSY,
       "1: find the rotation centre from pairs of projections 180 deg apart and take it over",
       choices=("Done", "Find")),
    PV("AutoCenterEnable", BO, "Yes: follow the centre by itself", 0, choices=NO_YES, saved=True),
    PV("ClickX", LONGOUT, "Column of a click into the picture of three slices", 0, 0, 100_000, "px"),
    PV("ClickY", LONGOUT, "Row of the click: written, it takes both over, and the slices cross there", 0, 0,
       100_000, "px",
       command=True),
    PV("Backend", MBBI, "What reconstructs", 0, choices=("none", "cpu", "gpu"), readback=True),
    PV("StreamNotice", TEXT, "The last thing that an operator should know: a refusal, a fault", "",
       readback=True),
    PV("TriggerArmed", BO, "Yes: rules may start captures", 1, choices=NO_YES, saved=True),
    PV("TriggerState", TEXT, "What the rules do", "none", readback=True),
    PV("TriggerReason", TEXT, "Why the last capture was started by a rule", "", readback=True),
    *readbacks((
        ("Latency50", "s", "From frame to slices that contain it: half are faster"),
        ("Latency95", "s", "From frame to slices that contain it: 95 of 100 are faster"),
        ("Coverage", "%", "Part of the window's angles that are there"),
        ("UpdateRate", "1/s", "Outputs per second"),
        ("CenterFound", "binned px", "Rotation centre found last"),
        ("SharpnessX", "", "Sharpness of the X slice"),
        ("SharpnessY", "", "Sharpness of the Y slice"),
        ("SharpnessZ", "", "Sharpness of the Z slice"),
        ("NoiseX", "1/um or 1/px", "Noise of the X slice"),
        ("NoiseY", "1/um or 1/px", "Noise of the Y slice"),
        ("NoiseZ", "1/um or 1/px", "Noise of the Z slice"),
    ), precision=5),
    *counters((
        ("FramesIn", "Projections that reconstruction has taken"),
        ("FramesLost", "Projections that found reconstruction's queue full"),
        ("FramesNoAngle", "Projections without an angle"),
        ("FramesNoField", "Projections for which there is no dark and flat field"),
    )),
)  # fmt: skip
"""What tomoStream has no PV for."""

STREAM_TABLE = (*CHANNELS, *PARAMETERS, *STATE, *ADDED)
