"""Movies come into the session whole, whatever happens on the way, and the raw data are never harmed."""

import errno
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import xxhash

from tomofly.model import BadInput, ItemRef, Outcome, StageContext, TomoflyError, result_parameters
from tomofly.stages import verified_copy
from tomofly.stages.transfer import STAGE, TransferParams
from tomofly.stages.transfer_run import companions, require_source

MTIME_NS = 1_600_000_000_123_456_789
LOG = logging.getLogger("test")


def context(session: Path, key: str = "grid 1/a", attempt: int = 1) -> StageContext:
    """The context of one attempt; all attempts share the folder for partial files."""
    work = session / ".work" / str(attempt)
    work.mkdir(parents=True)
    return StageContext("transfer", key, work, session / ".work" / "partial" / "0f3a", {}, {}, LOG)


def item(path: Path, key: str = "grid 1/a") -> ItemRef:
    status = path.stat()
    return ItemRef(key, "movie", path, f"{status.st_size}:{status.st_mtime_ns}")


def make_movie(path: Path, frames: int = 5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(7).integers(0, 99, (frames, 37, 41)).astype(np.int16)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(values)
        mrc.header.label[0] = "the same whenever it is made"  # mrcfile's own label holds the time
    os.utime(path, ns=(MTIME_NS, MTIME_NS))
    return path


def run(item: ItemRef, session: Path, mode: str, attempt: int = 1, **params: object) -> Outcome:
    chosen = TransferParams.model_validate({"mode": mode, **params})
    return STAGE.run(item, chosen, context(session, item.key, attempt))


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    return make_movie(tmp_path / "camera" / "grid 1" / "a.mrc")


@pytest.fixture
def session(tmp_path: Path) -> Path:
    return tmp_path / "session"


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy in steps so small that a small file has many of them."""
    monkeypatch.setattr(verified_copy, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(verified_copy, "CHECKPOINT_BYTES", 3000)


# What comes in


def test_a_link_points_at_the_movie(movie: Path, session: Path) -> None:
    outcome = run(item(movie), session, "link")
    product = outcome.products["movie"]
    assert product.is_symlink()
    assert product.readlink() == movie
    assert product.relative_to(session / ".work" / "1") == Path("grid 1/a.mrc")
    assert outcome.content == f"link:{movie.stat().st_size}:{MTIME_NS}"
    assert outcome.discard == ()
    assert outcome.metrics == {"transferred_bytes": movie.stat().st_size}


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_a_copy_is_the_same_and_has_the_time_of_the_movie(movie: Path, session: Path, mode: str) -> None:
    outcome = run(item(movie), session, mode)
    product = outcome.products["movie"]
    assert not product.is_symlink()
    assert product.read_bytes() == movie.read_bytes()
    assert product.stat().st_mtime_ns == MTIME_NS
    assert outcome.content == f"xxh3:{xxhash.xxh3_128_hexdigest(movie.read_bytes())}"
    assert outcome.metrics["transfer_speed_mb_per_s"] > 0
    assert set(outcome.metrics) <= {metric.name for metric in STAGE.metrics}
    assert list((session / ".work" / "partial").rglob("*.*")) == []


def test_a_moved_movie_stays_until_its_copy_is_committed(movie: Path, session: Path) -> None:
    xml = movie.with_suffix(".xml")
    xml.write_text("<a/>")
    outcome = run(item(movie), session, "move")
    assert [spent.path for spent in outcome.discard] == [movie, xml]
    assert all(spent.is_unchanged(spent.path.stat()) for spent in outcome.discard)
    assert movie.exists()
    assert xml.exists()
    assert run(item(movie), session, "copy", attempt=2).discard == ()


def test_raw_data_are_verified_before_they_may_be_deleted(
    movie: Path, session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = []
    monkeypatch.setattr(verified_copy, "_require_same", lambda *given: verified.append(given))
    run(item(movie), session, "copy", verify=False)
    assert verified == []
    run(item(movie), session, "move", 2, verify=False)
    assert len(verified) == 1


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_metadata_files_come_with_their_movie(tmp_path: Path, session: Path, mode: str) -> None:
    movie = make_movie(tmp_path / "FoilHole_1_Data_2_3_20230101_120000_Fractions.mrc")
    beside = {
        "FoilHole_1_Data_2_3_20230101_120000.xml": "xml",
        "FoilHole_1_Data_2_3_20230101_120000_Fractions.mrc.mdoc": "mdoc",
        "FoilHole_1_Data_2_3_20230101_120000_Fractions.star": "star",
    }
    for name in [*beside, "FoilHole_1_Data_2_3_20230101_120001.xml", "FoilHole_1.json"]:
        (tmp_path / name).write_text(name)
    outcome = run(item(movie, "m"), session, mode, additional_suffixes=["star", ".none"])
    assert sorted(outcome.products) == ["mdoc", "movie", "star", "xml"]
    for name, product in beside.items():
        assert outcome.products[product].read_text() == name
        assert outcome.products[product].name == f"m.{product}"
    total = movie.stat().st_size + sum(len(name) for name in beside)
    assert outcome.metrics["transferred_bytes"] == total


def test_a_movie_alone_has_no_companions(movie: Path) -> None:
    assert companions(movie, [".mrc"]) == {}


def test_a_picture_that_ends_like_the_movie_does_not_take_its_place(tmp_path: Path, session: Path) -> None:
    movie = make_movie(tmp_path / "a_Fractions.mrc")
    make_movie(tmp_path / "a.mrc", frames=1)
    (tmp_path / "a.jpg").write_text("jpg")
    outcome = run(item(movie, "m"), session, "copy", additional_suffixes=["mrc", "jpg"])
    assert sorted(outcome.products) == ["jpg", "movie"]
    assert outcome.products["movie"].read_bytes() == movie.read_bytes()


def test_suffixes_are_named_with_or_without_their_dot() -> None:
    params = TransferParams.model_validate({"additional_suffixes": [".star", "star", "meta.json"]})
    assert params.additional_suffixes == (".star", ".meta.json")
    for wrong in ("", ".", "../star"):
        with pytest.raises(ValueError, match="written like"):
            TransferParams.model_validate({"additional_suffixes": [wrong]})


@pytest.mark.parametrize("key", ["Grüße 日本/ä b", "a", "x.1/y.2"])
def test_any_key_can_be_copied(movie: Path, session: Path, key: str) -> None:
    product = run(item(movie, key), session, "copy").products["movie"]
    assert product == session / ".work" / "1" / f"{key}.mrc"
    assert product.read_bytes() == movie.read_bytes()


def test_a_key_that_keeps_its_suffix_does_not_get_it_twice(movie: Path, session: Path) -> None:
    assert run(item(movie, "b/a.mrc"), session, "link").products["movie"].name == "a.mrc"


def test_how_movies_come_in_changes_no_result() -> None:
    assert result_parameters(TransferParams()) == {}
    assert STAGE.resources.slot == "transfer"


# What is refused, and what is tried again


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_a_truncated_movie_is_refused_with_the_numbers(movie: Path, session: Path, mode: str) -> None:
    size = movie.stat().st_size
    os.truncate(movie, size - 100)
    with pytest.raises(
        BadInput, match=rf"a\.mrc is truncated: its header says {size} bytes, the file has {size - 100}"
    ):
        run(item(movie), session, mode)
    assert list(session.rglob("*.mrc*")) == []


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"not an image" * 500])
def test_a_file_that_is_no_movie_is_refused(movie: Path, session: Path, content: bytes) -> None:
    movie.write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.mrc is (empty|not whole: )"):
        run(item(movie), session, "copy")


def test_a_scan_that_is_no_hdf5_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    scan = tmp_path / "a.h5"
    scan.write_text("not a scan at all")
    with pytest.raises(BadInput, match=r"^a\.h5 is no HDF5 file\. Bring the whole file"):
        require_source(item(scan))


def test_an_item_without_a_file_is_refused(session: Path) -> None:
    with pytest.raises(BadInput, match="has no source file"):
        run(ItemRef("a", "movie"), session, "link")


def test_a_vanished_source_is_tried_again(movie: Path, session: Path) -> None:
    gone = item(movie)
    movie.unlink()
    with pytest.raises(TomoflyError, match="cannot be read: No such file or directory") as raised:
        run(gone, session, "copy")
    assert not isinstance(raised.value, BadInput)


def test_a_source_that_changed_since_it_was_found_is_tried_again(movie: Path, session: Path) -> None:
    found = item(movie)
    make_movie(movie, frames=6)
    with pytest.raises(TomoflyError, match="has changed since it was found") as raised:
        run(found, session, "link")
    assert not isinstance(raised.value, BadInput)


def test_a_source_that_changes_while_it_is_copied_leaves_nothing(
    movie: Path, session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite

    def write_meanwhile(*given: object) -> int:
        os.utime(movie)
        return write(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "pwrite", write_meanwhile)
    with pytest.raises(TomoflyError, match="changed while it was copied"):
        run(item(movie), session, "copy")
    assert list(session.rglob("*.mrc")) == []


@pytest.mark.parametrize("trouble", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_trouble_with_the_source_does_not_blame_the_disk(
    movie: Path, session: Path, monkeypatch: pytest.MonkeyPatch, trouble: int
) -> None:
    def refuse(*given: object) -> None:
        raise OSError(trouble, os.strerror(trouble))

    with pytest.raises(TomoflyError, match="cannot be read") as raised, verified_copy.reading(movie):
        refuse()
    assert isinstance(raised.value.__cause__, OSError)


# The session's disk


@pytest.mark.parametrize("trouble", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_trouble_with_the_disk_leaves_with_its_number_and_path(
    movie: Path, session: Path, small_steps: None, monkeypatch: pytest.MonkeyPatch, trouble: int
) -> None:
    write, left = os.pwrite, iter(range(7))

    def refuse(*given: object) -> int:
        if next(left, None) is None:
            raise OSError(trouble, os.strerror(trouble))
        return write(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(OSError, match=os.strerror(trouble)) as raised:
        run(item(movie), session, "copy")
    assert raised.value.errno == trouble
    assert Path(raised.value.filename).is_relative_to(session)
    assert list((session / ".work" / "1").rglob("*.mrc")) == []
    monkeypatch.undo()
    outcome = run(item(movie), session, "copy", attempt=2)
    assert outcome.products["movie"].read_bytes() == movie.read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(["mount", *options], check=False).returncode:
        pytest.skip("mounting a small file system needs to be root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_the_copy_goes_on_when_there_is_room(
    tmp_path: Path, small_disk: Path, small_steps: None
) -> None:
    movie = make_movie(tmp_path / "a.mrc", frames=15)  # 46 kB
    (small_disk / "other").write_bytes(b"\1" * 30_000)
    with pytest.raises(OSError, match="No space left") as raised:
        run(item(movie), small_disk / "session", "copy")
    assert raised.value.errno == errno.ENOSPC
    (small_disk / "other").unlink()
    outcome = run(item(movie), small_disk / "session", "copy", attempt=2)
    assert outcome.products["movie"].read_bytes() == movie.read_bytes()


def test_a_read_only_disk_is_said(tmp_path: Path, small_disk: Path) -> None:
    movie = make_movie(tmp_path / "a.mrc")
    ctx = context(small_disk / "session")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="Read-only file system") as raised:
        STAGE.run(item(movie), TransferParams(mode="copy"), ctx)
    assert raised.value.errno == errno.EROFS
