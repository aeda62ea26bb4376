"""How the live program stands, as one document; and what an operator should know, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["problem", "warning"]
Document = Mapping[str, Any]

OLD_FLAT_S = 4 * 3600.0
LOST_SHARE = 0.001
SLOW_S = 2.0
QUIET_PER_S = 0.1


@dataclass(frozen=True)
class Alert:
    """Something to know: how bad, what, and what to do."""

    level: Level
    what: str
    do: str = ""

    def document(self) -> dict[str, str]:
        """Give it as plain text by name."""
        return {"level": self.level, "what": self.what, "do": self.do}


def gigabytes(number: float) -> str:
    """Give room on a disk in words, also where there is little."""
    return f"{number:.1f} GB" if number >= 1 else f"{number:.3f} GB"


def alerts(status: Document) -> list[Alert]:
    """Find what is wrong in a status document, the worst first."""
    found = [
        *_of_camera(status),
        *_of_frames(status["frames"], status["reconstruction"]),
        *_of_fields(status),
        *_of_capture(status),
        *_of_reconstruction(status["reconstruction"]),
        *_of_parts(status),
        *_of_copies(status.get("copies", {})),
        *_of_writers(status),
    ]
    return sorted(found, key=lambda alert: alert.level != "problem")


def _of_camera(status: Document) -> list[Alert]:
    camera, collection = status["camera"], status["collection"]
    if not camera["connected"]:
        return [Alert("problem", f"The camera's channel {camera['channel']} is not there",
                      "Start the camera's server, or correct camera.image in the settings")]  # fmt: skip
    found = []
    if camera["problem"]:
        found.append(Alert("problem", f"Frames cannot be read: {camera['problem']}"))
    if collection["phase"] == "Streaming" and camera["frames_per_s"] < 0.01:
        found.append(Alert("problem", "No frames come although collection streams", "Check the triggers"))
    if collection["phase"] == "Fault":
        found.append(
            Alert("problem", f"Collection has stopped: {collection['fault']}", "Then: tomofly live start")
        )
    return found


def _of_frames(frames: Document, reconstruction: Document) -> list[Alert]:
    found = []
    received = max(frames["received"], 1)
    if frames["missing"] > LOST_SHARE * received:
        of_all = f"{frames['missing']} of {received + frames['missing']} frames"
        found.append(Alert("warning", f"{of_all} never came", "Look at the camera and the network"))
    for stage, count in frames["lost"].items():
        if count:
            found.append(Alert("warning", f"{count} frames lost: {stage}"))
    no_angle = reconstruction["losses"].get("no_angle", 0)
    if no_angle > LOST_SHARE * received:
        found.append(Alert("warning", f"{no_angle} projections have no angle, and are in no slice",
                           "Let frames carry RotationAngle, or broadcast a longer list"))  # fmt: skip
    unread = sum(reconstruction["losses"].get(name, 0) for name in ("queue_full", "thinned_out"))
    if unread > LOST_SHARE * received:
        found.append(Alert("warning", f"{unread} frames were too many for reconstruction",
                           "Bin, take fewer frames per second, or use a GPU"))  # fmt: skip
    return found


def _of_fields(status: Document) -> list[Alert]:
    found = []
    fields, projections = status["fields"], status["reconstruction"]["losses"].get("no_fields", 0)
    both = all(fields[kind]["version"] for kind in ("dark", "flat"))
    if both and fields.get("fit") is False:
        found.append(
            Alert("problem", "No dark and flat field fit the frames that come, by size, type or lens, so "
                  "nothing is reconstructed", "tomofly live retake dark, then flat")
        )  # fmt: skip
    for kind in ("dark", "flat"):
        field = fields[kind]
        if field["version"] == 0 and projections:
            found.append(Alert("problem", f"There is no {kind} field, so nothing is reconstructed",
                               f"tomofly live retake {kind}"))  # fmt: skip
        elif kind == "flat" and field["age_s"] is not None and field["age_s"] > OLD_FLAT_S:
            hours = field["age_s"] / 3600
            found.append(
                Alert("warning", f"The flat field is {hours:.0f} hours old", "tomofly live retake flat")
            )
    found += [Alert("warning", f"A field was refused: {reason}") for reason in fields["refusals"][-1:]]
    return found


def _of_capture(status: Document) -> list[Alert]:
    found, capture = [], status["capture"]
    if capture["state"] == "Capturing" and status["camera"]["frames_per_s"] < QUIET_PER_S:
        found.append(Alert("warning", "The capture waits for frames, and none come",
                           "tomofly live start, or end it: tomofly live capture --stop"))  # fmt: skip
    if capture["free_gb"] is not None and capture["free_gb"] < 2 * capture["minimum_free_gb"]:
        found.append(Alert("problem", f"Only {gigabytes(capture['free_gb'])} are free in {capture['folder']}",
                           "Make room, or set FilePath"))  # fmt: skip
    if capture["state"] == "Failed":
        found.append(Alert("problem", f"The last capture failed: {capture['problem']}"))
    return found


def _of_reconstruction(reconstruction: Document) -> list[Alert]:
    if not reconstruction["alive"]:
        return [Alert("problem", f"Reconstruction does not work: {reconstruction['trouble']}",
                      "Frames and captures are not touched by it; start the program again")]  # fmt: skip
    failed = reconstruction["losses"].get("failed", 0)
    if failed:
        last = (reconstruction.get("messages") or [""])[-1]
        return [Alert("problem", f"Reconstruction failed on {failed} frames: {last}")]
    if reconstruction["latency_p95_s"] > SLOW_S:
        late = reconstruction["latency_p95_s"]
        return [
            Alert("warning", f"Slices are {late:.1f} s behind the frames", "Bin, or use a shorter window")
        ]
    return []


def _of_parts(status: Document) -> list[Alert]:
    found = [Alert("problem", f"{name} failed: {why}") for name, why in status["program"]["troubles"].items()]
    for trigger in status["triggers"]:
        if trigger.get("trouble"):
            found.append(Alert("warning", f"Trigger {trigger['name']}: {trigger['trouble']}"))
    return found


def _of_copies(copies: Document) -> list[Alert]:
    failed = copies.get("failed", ())
    if not failed:
        return []
    count = f"{len(failed)} captured files are" if len(failed) > 1 else f"{failed[0]['file']} is"
    return [Alert("problem", f"{count} not copied: {failed[-1]['problem']}", "Then: tomofly live copy")]


def _of_writers(status: Document) -> list[Alert]:
    found = []
    for fight in status.get("fights", ()):
        writers = f"{fight['last']} was last, {fight['before']} before"
        what = f"{fight['pv']} is written by two within a second: {writers}"
        found.append(Alert("warning", what, "Let one of them stop"))
    return found
