"""The PVs of collection, under the names that tomoScanStream's clients know, and those that are added."""

from tomofly.live.records.pv import PV, Record, counters, readbacks, strings, texts

AO, BO, BUSY, LONGOUT = Record.AO, Record.BO, Record.BUSY, Record.LONGOUT
MBBO, MBBI, BI, TEXT = Record.MBBO, Record.MBBI, Record.BI, Record.TEXT
NO_YES = ("No", "Yes")
DONE_CAPTURE = ("Done", "Capture")
MINOR_WHILE_1 = ("NO_ALARM", "MINOR")
FIELD_MODES = ("Start", "End", "Both", "None")

STREAMING = (
    PV("StreamCapture", BUSY, "1: capture StreamNumCapture frames and the pre-trigger ring; 0: stop it",
       choices=DONE_CAPTURE, severities=MINOR_WHILE_1),
    PV("StreamNumCapture", LONGOUT, "Frames to save per capture", 100, 0, 1_000_000, saved=True),
    PV("StreamNumCaptured", LONGOUT, "Frames of the running capture that are saved", 0, 0, 1_000_000,
       readback=True),
    PV("StreamNumTotalCaptured", LONGOUT, "Frames of the last capture, those before the request included",
       0, 0, 1_020_000, readback=True),
    PV("StreamRetakeFlat", BUSY, "1: retake flat fields while streaming", choices=DONE_CAPTURE),
    PV("StreamRetakeDark", BUSY, "1: retake dark fields while streaming", choices=DONE_CAPTURE),
    PV("StreamPreCount", LONGOUT, "Frames from before the request to save with a capture", 0, 0, 20_000,
       saved=True),
    PV("StreamPreCounted", LONGOUT, "Frames that the pre-trigger ring holds now", 0, 0, 20_000,
       readback=True),
    PV("StreamBinning", MBBO, "Binning of the live reconstruction and the broadcast; captures stay whole", 0,
       choices=("1x", "2x", "4x"), saved=True),
    PV("StreamMessage", TEXT, "What is under way: Done, Capturing projections, Capturing circular buffer, "
       "Capturing dark fields or Capturing flat fields", "Done", readback=True),
    PV("StreamCBStatusMessage", TEXT, "What the pre-trigger ring does", "", readback=True),
    PV("StreamFileName", TEXT, "Name of the last captured file", "", readback=True),
    *strings((("PvaStreamPVPrefix", "", "Prefix of the broadcast of dark, flat and theta"),), saved=False),
    PV("StreamSync", BO, "1: take over ExposureTime and RotationStep while rotating", choices=("Done",
       "Sync"),
       command=True),
    PV("FirstProjid", LONGOUT, "uniqueId of the frame taken at theta[0]", 0, readback=True),
    PV("StreamScanType", BO, "Rotation pattern", 1, choices=("backforth", "continuous"), saved=True),
)  # fmt: skip
"""Section by section as in tomoScanStream: the records of streaming."""

# Not saved: after a restart the settings file says again what the devices are.
DEVICES = strings((
    ("CameraPVPrefix", "", "Prefix of the camera"),
    ("FilePluginPVPrefix", "", "Prefix of the camera's file plugin; not needed: files are written here"),
    ("PvaPluginPVPrefix", "", "Prefix of the PVA plugin whose Image channel is taken in"),
    ("RoiPluginPVPrefix", "", "Prefix of the ROI plugin before the PVA plugin; empty: none"),
    ("CbPluginPVPrefix", "", "Prefix of a circular-buffer plugin; not needed: the ring is kept here"),
    ("OpenShutterPVName", "", "PV that opens the shutter"),
    ("OpenShutterValue", "1", "Value that opens the shutter"),
    ("CloseShutterPVName", "", "PV that closes the shutter"),
    ("CloseShutterValue", "0", "Value that closes the shutter"),
    ("ShutterStatusPVName", "", "PV that says whether the shutter is open"),
    ("OpenFastShutterPVName", "", "PV that opens the fast shutter; empty: none"),
    ("OpenFastShutterValue", "1", "Value that opens the fast shutter"),
    ("CloseFastShutterPVName", "", "PV that closes the fast shutter; empty: none"),
    ("CloseFastShutterValue", "0", "Value that closes the fast shutter"),
    ("RotationPVName", "", "Motor record of the rotation"),
    ("SampleXPVName", "", "Motor record of the sample's x"),
    ("SampleYPVName", "", "Motor record of the sample's y"),
    ("BeamReadyPVName", "", "PV that says that there is beam; empty: do not ask"),
    ("BeamReadyValue", "1", "Value of it when there is beam"),
    ("MctOpticsPVPrefix", "", "Prefix of the optics (LensSelect); empty: one lens"),
), saved=False)  # fmt: skip

ROTATION = (
    PV("RotationStart", AO, "Angle of the first projection", 0.0, -100_000, 100_000, "deg", saved=True),
    PV("RotationStep", AO, "Angle between projections", 0.2, -180, 180, "deg", 6, saved=True),
    PV("NumAngles", LONGOUT, "Projections of one sweep", 900, 1, 100_000_000, saved=True),
    PV("RotationStop", Record.CALC, "Angle of the last projection", unit="deg",
       formula="A+B*(C-1)", inputs=("RotationStart", "RotationStep", "NumAngles")),
    PV("ReturnRotation", MBBO, "What the rotation does at the end", 1, choices=("No", "Yes", "Home"),
       saved=True),
    PV("ScanType", MBBO, "Kind of scan", choices=("Streaming",), readback=True),
    PV("FlipStitch", BO, "Whether the axis is at the edge of the field", choices=NO_YES, saved=True),
)  # fmt: skip

FIELDS = (
    PV("NumDarkFields", LONGOUT, "Dark frames to take", 10, 0, 100_000, saved=True),
    PV("DarkFieldMode", MBBO, "When dark frames are taken by themselves", 0, choices=FIELD_MODES, saved=True),
    PV("DarkFieldValue", AO, "Dark value to use where no dark frames are taken", 0.0, 0, 1e9, "counts",
       saved=True),
    PV("NumFlatFields", LONGOUT, "Flat frames to take", 10, 0, 100_000, saved=True),
    PV("FlatFieldMode", MBBO, "When flat frames are taken by themselves", 0, choices=FIELD_MODES, saved=True),
    PV("FlatFieldAxis", MBBO, "How the sample leaves the beam", 0, choices=("X", "Y", "Both"), saved=True),
    PV("FlatFieldValue", AO, "Flat value to use where no flat frames are taken", 0.0, 0, 1e9, "counts",
       saved=True),
    PV("SampleInX", AO, "Sample's x in the beam", 0.0, unit="mm", saved=True),
    PV("SampleOutX", AO, "Sample's x out of the beam", 0.0, unit="mm", saved=True),
    PV("SampleInY", AO, "Sample's y in the beam", 0.0, unit="mm", saved=True),
    PV("SampleOutY", AO, "Sample's y out of the beam", 0.0, unit="mm", saved=True),
    PV("SampleOutAngle", AO, "Angle to turn to before the sample leaves", 0.0, -100_000, 100_000, "deg",
       saved=True),
    PV("SampleOutAngleEnable", BO, "Whether to turn to SampleOutAngle first", choices=NO_YES, saved=True),
    PV("FrameType", MBBI, "What the camera sees now", 2, choices=("DarkField", "FlatField", "Projection"),
       readback=True),
    PV("MoveSampleIn", BUSY, "1: move the sample into the beam", choices=("Done", "Move")),
    PV("MoveSampleOut", BUSY, "1: move the sample out of the beam", choices=("Done", "Move")),
)  # fmt: skip

EXPOSURE = (
    PV("ExposureTime", AO, "Exposure of projections and dark frames", 0.02, 1e-6, 3600, "s", 6, saved=True),
    PV("FlatExposureTime", AO, "Exposure of flat frames, where it is another one", 0.02, 1e-6, 3600, "s", 6,
       saved=True),
    PV("DifferentFlatExposure", BO, "Whether flat frames have an exposure of their own", choices=("Same",
       "Different"),
       saved=True),
)  # fmt: skip

FILES = (
    *texts((
        ("FilePath", "", "Folder of captured files; empty: that of the settings"),
        ("FileName", "scan", "Name of captured files, before their number"),
    )),
    PV("CopyToAnalysisDir", MBBO, "How captured files are copied to RemoteAnalysisDir", 0,
       choices=("None", "fdt", "scp"), saved=True),
    *texts((("RemoteAnalysisDir", "", "Where to: a folder of this computer, or host:folder"),)),
    PV("FilePathExists", BI, "Whether FilePath can be written to", choices=NO_YES, severities=("MAJOR",
       "NO_ALARM"),
       readback=True),
    PV("OverwriteWarning", BI, "No file is ever overwritten: a number is added", 1, choices=NO_YES,
       readback=True),
    PV("FullFileName", TEXT, "The last captured file with its folder", "", readback=True),
    *texts((
        ("HDF5ProjectionLocation", "/exchange/data", "Where projections go in a file"),
        ("HDF5DarkLocation", "/exchange/data_dark", "Where dark frames go in a file"),
        ("HDF5FlatLocation", "/exchange/data_white", "Where flat frames go in a file"),
    )),
    PV("HDF5Location", TEXT, "Where the frame that the camera takes now would go", "/exchange/data",
       readback=True),
)  # fmt: skip

COMMANDS = (
    PV("StartScan", BUSY, "1: start streaming; back to 0 when it has ended", choices=("Done", "Scan"),
       severities=MINOR_WHILE_1),
    PV("AbortScan", BO, "1: end streaming now", choices=NO_YES, command=True),
    PV("ScanStatus", TEXT, "What collection does, in words", "Idle", readback=True),
    PV("ImagesCollected", LONGOUT, "Frames that the camera has taken since the start", 0, readback=True),
    PV("ImagesSaved", LONGOUT, "Frames that are saved since the start", 0, readback=True),
    PV("ElapsedTime", Record.STRINGOUT, "Time since the start", "00:00:00", readback=True),
    PV("RemainingTime", Record.STRINGOUT, "Time to the end; streaming has none", "", readback=True),
    PV("Watchdog", Record.CALCOUT, "Set to 5 by the program every 3 s; counts down each second",
       formula="A>0?A-1:0", inputs=("Watchdog",), target="ServerRunning"),
    PV("ServerRunning", BI, "Whether the program is at work", 0, choices=("Stopped", "Running"),
       severities=("MAJOR", "NO_ALARM"), readback=True),
    PV("Testing", BO, "Yes: leave the shutters alone and do not wait for beam", choices=NO_YES, saved=True),
)  # fmt: skip

EXPERIMENT = texts((
    ("SampleName", "", "Name of the sample, written into captured files"),
    ("SampleDescription1", "", "About the sample"),
    ("SampleDescription2", "", "About the sample"),
    ("SampleDescription3", "", "About the sample"),
    ("UserName", "", "Who measures"),
    ("UserInstitution", "", "Where they are from"),
    ("UserBadge", "", "Their badge"),
    ("UserEmail", "", "Their address"),
    ("ProposalNumber", "", "Number of the proposal"),
    ("ProposalTitle", "", "Title of the proposal"),
    ("ESAFNumber", "", "Number of the experiment's safety form"),
))  # fmt: skip

ADDED = (
    PV("StreamNotice", TEXT, "The last thing that an operator should know: a refusal, a time limit, a loss",
       "",
       readback=True),
    PV("StreamAlerts", LONGOUT, "Alerts that stand now; `tomofly live status` lists them", 0, readback=True),
    PV("StreamPhase", MBBI, "What collection does", 0, readback=True,
       choices=("Idle", "Starting", "Dark fields", "Flat fields", "Streaming", "Retake dark", "Retake flat",
                "Changing rate", "Moving sample", "Ending", "Fault"),
       severities=("NO_ALARM",) * 10 + ("MAJOR",)),
    PV("StreamSampleMoving", BI, "Whether the sample is on its way: such frames enter nothing",
       choices=NO_YES,
       readback=True),
    PV("StreamLens", LONGOUT, "Lens that is in", 0, -1, 99, readback=True),
    PV("StreamCaptureState", MBBI, "What capture does", 0, readback=True,
       choices=("Idle", "Capturing", "Finishing", "Failed"),
       severities=("NO_ALARM", "NO_ALARM", "NO_ALARM", "MAJOR")),
    PV("StreamCaptureTicket", LONGOUT, "Number of the last capture that was asked for", 0, readback=True),
    PV("StreamCopyState", MBBI, "What copying to RemoteAnalysisDir does", 0, readback=True,
       choices=("Idle", "Copying", "Failed"), severities=("NO_ALARM", "NO_ALARM", "MAJOR")),
    PV("StreamCopyFile", TEXT, "A captured file to copy once more; empty: all of which the copy failed", "",
       command=True),
    PV("StreamMotorTimeout", AO, "Longest wait for a motor beyond the time that its speed needs", 30.0, 0.1,
       3600, "s",
       saved=True),
    PV("StreamShutterTimeout", AO, "Longest wait for a shutter", 20.0, 0.1, 3600, "s", saved=True),
    PV("StreamFrameTimeout", AO, "Longest wait for a frame beyond its exposure", 10.0, 0.1, 3600, "s",
       saved=True),
    *counters((
        ("StreamFramesReceived", "Frames that came in"),
        ("StreamFramesMissing", "Frames that the camera numbered but that never came"),
        ("StreamFramesDropped", "Frames that came in but found a queue full, all steps together"),
        ("StreamCopyWaiting", "Captured files that are being copied, or wait for it"),
        ("StreamCopied", "Captured files that have been copied since the start"),
        ("StreamDarkVersion", "Number of the dark field in force"),
        ("StreamFlatVersion", "Number of the flat field in force"),
    )),
    *readbacks((
        ("StreamRate", "1/s", "Frames per second that come in"),
        ("StreamDarkAge", "s", "Time since the dark field in force was taken"),
        ("StreamFlatAge", "s", "Time since the flat field in force was taken"),
        ("StreamFreeSpace", "GB", "Free space where captures go"),
        ("StreamRingSeconds", "s", "Time that the pre-trigger ring reaches back"),
    ), precision=2),
)  # fmt: skip
"""What tomoScanStream has no PV for."""

SCAN_TABLE = (*STREAMING, *DEVICES, *ROTATION, *FIELDS, *EXPOSURE, *FILES, *COMMANDS, *EXPERIMENT, *ADDED)
