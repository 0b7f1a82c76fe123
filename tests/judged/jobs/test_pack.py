"""pack and inject: what streams through both is what preload writes, to the byte."""

from __future__ import annotations

import filecmp
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastcrc import crc64
from tests.support.scripts import ROOT

import drypoint
from drypoint import ExtraFile, ImageRequest, OciLayoutSource, inject, pack, preload, pulled
from drypoint.balena.apps_json_images import AppsJsonImages
from drypoint.disk import FileDevice, Window, find_partition, read_table
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.errors import (
    ContentError,
    DigestMismatchError,
    DiskImageError,
    UsageError,
    VerificationError,
)
from drypoint.injection.request import InjectRequest
from drypoint.jobs.base_stream import BaseStream, read_stream
from drypoint.jobs.request import PreloadRequest
from drypoint.oci import Image, Layer, Platform, Reference, parse_platform
from drypoint.samples.applications import sample_content
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, PartitionTable, Sizes, build_disk_image
from drypoint.samples.images import (
    BuiltImage,
    Compression,
    build_image,
    build_layer,
    registry_content,
    write_oci_layout,
)
from drypoint.samples.layers import LayerBuilder, file_capability
from drypoint.samples.registry import serve_registry
from drypoint.sources import ImageSource
from drypoint.sources.registry import RegistrySource
from drypoint.stores.overlay2 import placement, read_state
from drypoint.stores.overlay2.identity import choose_cache_id, choose_link
from drypoint.verification import RequiredImagesReader
from drypoint.volumes.fat_files import FatFile

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "resize2fs")

PLATFORM = parse_platform("linux/amd64")
SIZES = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=16 * MIB)
SUPERVISOR, APP, OTHER = "example.com/supervisor:1", "example.com/app:1", "example.com/other:1"


def images() -> dict[str, BuiltImage]:
    """Layers with whatever makes a store be written in more ways than by adding."""
    base = LayerBuilder().directory("etc").file("etc/os", b"os").directory("opt", xattrs={b"user.a": b"1"})
    for number in range(300):
        base.file(f"usr/{number % 7}/{number}", sample_content(f"{number}", number * 11), mtime=number * 1_000_000_123)
    base.file("usr/big", sample_content("big", 3 * MIB)).file("usr/zeros", bytes(2 * MIB)).char_device("dev/null", 1, 3)
    top = LayerBuilder()
    # A hard link with a header of its own, a directory named twice, kinds that take each other's place through links, opaque.
    top.file("a", b"a", mode=0o600).hardlink("b", "a", mode=0o755, xattrs={b"security.capability": file_capability(10)})
    top.directory("d", mode=0o700).file("d/f", b"f").directory("l").symlink("s", "l").file("s/through", b"1")
    top.file("l/x", b"x").directory("s/x").file("l/x/inside", b"in").directory("late", mtime=10**18).opaque("opt")
    top.whiteout("etc/os").opaque("d").file("long/" + "n" * 200 + "/" + "m" * 200, b"").file(b"caf\xe9" * 60, b"latin")
    shared = build_layer(base.finish())
    app = build_image([shared, build_layer(top.finish()), build_layer(LayerBuilder().file("app", b"1").finish())])
    small = build_layer(LayerBuilder().file("supervisor", b"s" * 5000).finish(), Compression.ZSTD)
    return {
        SUPERVISOR: build_image([shared, small], created="2023-01-01T00:00:00Z"),
        APP: app,
        OTHER: build_image([build_layer(LayerBuilder().file("other", b"o").finish(), Compression.NONE)]),
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciLayoutSource]:
    directory = tmp_path_factory.mktemp("images") / "layout"
    directory.mkdir()
    write_oci_layout(directory, images())
    found = OciLayoutSource(directory)
    yield found
    found.close()


def requests(source: ImageSource, *names: str) -> list[ImageRequest]:
    return [ImageRequest(drypoint.parse_reference(name), source) for name in names]


@pytest.fixture(
    scope="module",
    params=[PartitionTable.MBR, PartitionTable.GPT],
    ids=lambda table: table.name,
)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, source: OciLayoutSource) -> Path:
    """A disk image with the Supervisor in it, as preload puts it in."""
    directory = tmp_path_factory.mktemp("base")
    empty = build_disk_image(directory / "empty.img", table=request.param, sizes=SIZES).path
    preload(empty, directory / "base.img", PreloadRequest(requests(source, SUPERVISOR), PLATFORM))
    empty.unlink()
    return directory / "base.img"


def packed(
    base: Path | BaseStream,
    archive: Path,
    wanted: list[ImageRequest],
    *,
    base_manifest: bytes | None = None,
    unseen: bool = False,
    **options: object,
) -> Path:
    request = PreloadRequest(wanted, PLATFORM, **options)  # type: ignore[arg-type]
    with archive.open("wb") as file:
        pack(base, file.write, request, base_manifest=base_manifest, unseen=unseen)
    return archive


def injected(archive: Path, *, verify: bool = True, required_images: RequiredImagesReader | None = None) -> Path:
    out = archive.with_suffix(".img")
    with archive.open("rb") as file:
        destination = drypoint.Destination(out, overwrite=True)
        inject(file, destination, InjectRequest(required_images=required_images), name=archive.name, verify=verify)
    return out


@contextmanager
def store(image: Path) -> Iterator[Ext4Reader]:
    with FileDevice(image) as device:
        found = find_partition(device, read_table(device), "resin-data").partition
        yield Ext4Reader(Window(device, found.start, found.size))


@pytest.mark.parametrize("growth", ["none", "before", "amidst", "trimmed"])
def test_the_bytes_are_those_of_preload(tmp_path: Path, base: Path, source: OciLayoutSource, growth: str) -> None:
    wanted = requests(source, APP, OTHER)
    files = [ExtraFile(b"apps.json", b"{}"), ExtraFile(b"remove_me_to_reset", b"changed", 0o600)]
    fat = [FatFile(1, "config.json", b"{}"), FatFile(1, "new/static_ip", b"[ipv4]\n")]
    options: dict[str, Any] = {
        "none": {},
        "before": {"additional_space": 30 * MIB},
        "amidst": {},
        "trimmed": {"additional_space": 5 * MIB, "shrink_to_fit": True},
    }[growth]
    if growth == "amidst":
        # Far more on the disk than the compressed size lets expect.
        layers = [build_layer(LayerBuilder().file("same", b"12345678" * (3 * MIB)).finish())]
        (tmp_path / "layout").mkdir()
        write_oci_layout(tmp_path / "layout", {"example.com/dense:1": build_image(layers)})
        wanted += requests(OciLayoutSource(tmp_path / "layout"), "example.com/dense:1")
    request = PreloadRequest(wanted, PLATFORM, files=files, fat_files=fat, **options)
    preload(base, tmp_path / "out.img", request)
    archive = packed(base, tmp_path / "a.etch", wanted, files=files, fat_files=fat, **options)
    assert filecmp.cmp(tmp_path / "out.img", injected(archive), shallow=False)
    # And again on what came out: nothing to do is nothing done.
    again = packed(tmp_path / "out.img", tmp_path / "again.etch", wanted, files=files)
    assert filecmp.cmp(tmp_path / "out.img", injected(again), shallow=False)


@pytest.mark.parametrize("suffix", ["gz", "xz", "zst", "zip"])
def test_outputs_are_packed_as_preload_packs_them(
    tmp_path: Path, base: Path, source: OciLayoutSource, suffix: str
) -> None:
    wanted = requests(source, OTHER)
    archive = packed(base, tmp_path / "a.etch", wanted)
    for program in ("preload", "inject"):
        (tmp_path / program).mkdir()
        out, block_map = tmp_path / program / f"out.img.{suffix}", tmp_path / program / "out.bmap"
        if program == "preload":
            preload(base, drypoint.Destination(out, block_map=block_map), PreloadRequest(wanted, PLATFORM))
        else:
            inject(archive, drypoint.Destination(out, block_map=block_map))
    for name in (f"out.img.{suffix}", "out.bmap"):
        assert filecmp.cmp(tmp_path / "preload" / name, tmp_path / "inject" / name, shallow=False)


def test_images_are_replaced_as_preload_replaces_them(tmp_path: Path, base: Path, source: OciLayoutSource) -> None:
    old = tmp_path / "old.img"
    preload(base, old, PreloadRequest(requests(source, APP), PLATFORM))
    wanted = requests(source, OTHER)
    options: dict[str, Any] = {"replaced": lambda _: [drypoint.parse_reference(APP)]}
    preload(old, tmp_path / "out.img", PreloadRequest(wanted, PLATFORM, **options))
    archive = packed(old, tmp_path / "a.etch", wanted, **options)
    assert filecmp.cmp(tmp_path / "out.img", injected(archive), shallow=False)
    with store(tmp_path / "out.img") as reader:
        assert set(read_state(reader, b"docker").repositories) == {"example.com/supervisor", "example.com/other"}


@pytest.mark.parametrize("how", ["stream", "compressed"])
def test_way_a_from_a_manifest_of_the_base(tmp_path: Path, base: Path, source: OciLayoutSource, how: str) -> None:
    with FileDevice(base) as device:
        known = drypoint.base_manifest(device, "resin-data", b"docker")
        assert drypoint.base_manifest(device, "resin-data", b"docker") == known
    wanted = requests(source, APP, SUPERVISOR)
    files = [ExtraFile(b"remove_me_to_reset", b"changed")]
    archive = tmp_path / "a.etch"
    if how == "compressed":
        path = tmp_path / "base.img.gz"
        path.write_bytes(gzip.compress(base.read_bytes(), 1))
        packed(path, archive, wanted, files=files, base_manifest=known)
    else:
        with base.open("rb") as file:
            packed(read_stream(file, None), archive, wanted, files=files, base_manifest=known)
    preload(base, tmp_path / "out.img", PreloadRequest(wanted, PLATFORM, files=files))
    out = injected(archive)
    with store(tmp_path / "out.img") as expected, store(out) as found:
        assert read_state(expected, b"docker") == read_state(found, b"docker")
        assert read_state(found, b"docker").findings == ()
    # The Supervisor's layers are shared, not sent: two of the application's come, and the Supervisor's own is there.
    done = subprocess.run(["tar", "tf", archive], capture_output=True, text=True, check=True)
    assert done.stdout.count("tar-split.json.gz") == 2
    report = drypoint.verify(out, partition="resin-data", data_root=b"docker")
    assert [one for one in report.findings if one.severity.name == "ERROR"] == []


def test_way_b_puts_the_supervisor_in_again(tmp_path: Path, base: Path, source: OciLayoutSource) -> None:
    preload(base, tmp_path / "before.img", PreloadRequest(requests(source, OTHER), PLATFORM))
    with (tmp_path / "before.img").open("rb") as file:
        archive = packed(read_stream(file, None), tmp_path / "b.etch", requests(source, SUPERVISOR, APP), unseen=True)
    out = injected(archive)
    with store(out) as reader:
        state = read_state(reader, b"docker")
    # What the base had besides is still known by its name.
    assert set(state.repositories) == {"example.com/supervisor", "example.com/app", "example.com/other"}
    assert all(image.usable for image in state.images.values())
    assert state.findings == ()
    report = drypoint.verify(out, partition="resin-data", data_root=b"docker")
    assert [one for one in report.findings if one.severity.name == "ERROR"] == []


@pytest.fixture
def pulled_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Layers get other names than drypoint's, as an engine that pulled them has drawn them; undoing it ends that."""
    with monkeypatch.context() as patch:
        patch.setattr(
            placement, "choose_cache_id", lambda chain, _: choose_cache_id(chain, {choose_cache_id(chain, ())})
        )
        patch.setattr(placement, "choose_link", lambda chain, _: choose_link(chain, {choose_link(chain, ())}))
        yield patch


def test_way_b_over_what_an_engine_pulled(tmp_path: Path, pulled_names: pytest.MonkeyPatch) -> None:
    """The same Supervisor under other names, and an image of another repository with one of its layers, packed otherwise."""
    built = images()
    layer = built[SUPERVISOR].layers[0]
    repacked = build_image([build_layer(layer.tar, Compression.NONE)], created="2022-01-01T00:00:00Z")
    served = {"team/supervisor:1": built[SUPERVISOR], "team/app:1": built[APP], "team/beside:1": repacked}
    with serve_registry(registry_content(served)) as registry, RegistrySource() as source:
        supervisor, app, beside = (requests(source, f"{registry.host}/{name}")[0] for name in served)
        empty = build_disk_image(tmp_path / "empty.img", sizes=SIZES).path
        preload(empty, tmp_path / "base.img", PreloadRequest([beside, supervisor], PLATFORM))
        pulled_names.undo()
        with (tmp_path / "base.img").open("rb") as file:
            archive = packed(read_stream(file, None), tmp_path / "b.etch", [supervisor, app], unseen=True)
        host = registry.host
    out = injected(archive)
    with store(tmp_path / "base.img") as before, store(out) as reader:
        old, state = read_state(before, b"docker"), read_state(reader, b"docker")
    assert set(state.repositories) == {f"{host}/team/{name}" for name in ("supervisor", "app", "beside")}
    assert all(image.usable for image in state.images.values())
    chain = layer.diff_id
    assert old.layers[chain].cache_id != state.layers[chain].cache_id
    # Either blob is known for the layer still; of the repositories that have it, only those that the archive knows.
    blobs = {layer.descriptor.digest, repacked.layers[0].descriptor.digest}
    assert {blob for blob, diff_id in state.diff_ids.items() if diff_id == chain} == blobs
    assert [one.source_repository for one in old.origins[chain]] == [f"{host}/team/beside", f"{host}/team/supervisor"]
    assert [one.source_repository for one in state.origins[chain]] == [f"{host}/team/supervisor", f"{host}/team/app"]
    # What is left of the old names is what an engine removes as nobody's.
    report = drypoint.verify(out, partition="resin-data", data_root=b"docker")
    assert [one for one in report.findings if one.severity.name == "ERROR"] == []
    assert f"docker/overlay2/{old.layers[chain].cache_id}".encode() in {one.path for one in report.findings}


def test_way_b_that_would_take_layers_from_another_image(
    tmp_path: Path, source: OciLayoutSource, pulled_names: pytest.MonkeyPatch
) -> None:
    """The application stands on a layer of the Supervisor, by the name that the engine gave it: that would become nobody's."""
    empty = build_disk_image(tmp_path / "empty.img", sizes=SIZES).path
    preload(empty, tmp_path / "base.img", PreloadRequest(requests(source, SUPERVISOR, APP), PLATFORM))
    pulled_names.undo()
    with (tmp_path / "base.img").open("rb") as file:
        archive = packed(read_stream(file, None), tmp_path / "b.etch", requests(source, SUPERVISOR), unseen=True)
    with pytest.raises(VerificationError, match=r"does not read back as it should.*lower"):
        injected(archive)
    assert not (tmp_path / "b.img").exists()


def test_a_fault_in_a_layer_is_found_at_the_end(tmp_path: Path, base: Path, source: OciLayoutSource) -> None:
    """With a checksum to match, only verification finds it; without, it gets through."""
    archive = packed(base, tmp_path / "a.etch", requests(source, OTHER))
    content = bytearray(archive.read_bytes())
    with tarfile.open(archive) as tar:
        member = next(one for one in tar if one.name.endswith("/diff/other"))
        last = tar.getmembers()[-1]
    content[member.offset_data] ^= 1
    content[last.offset_data : last.offset_data + 16] = b"%016x" % crc64.xz(bytes(content[: last.offset_data]))
    archive.write_bytes(content)
    with pytest.raises(VerificationError, match=r"does not read back as it should, in 1 places: .*other"):
        injected(archive)
    assert not (tmp_path / "a.img").exists()
    with store(injected(archive, verify=False)) as reader:
        found = reader.lookup(member.name.split("/", 2)[2].encode())
        assert found is not None
        assert b"".join(bytes(piece) for piece in reader.read(found)) == b"n"


def test_a_stream_of_which_nothing_is_known(tmp_path: Path, base: Path, source: OciLayoutSource) -> None:
    stream = BaseStream(iter((b"x",)), 1)
    out = io.BytesIO()
    with pytest.raises(UsageError, match=r"--base-manifest FILE.*--supervisor-image REF"):
        pack(stream, out.write, PreloadRequest(requests(source, APP), PLATFORM))
    with pytest.raises(UsageError, match="the images to replace are not known"):
        pack(stream, out.write, PreloadRequest(requests(source, APP), PLATFORM, replaced=lambda _: []), unseen=True)
    with pytest.raises(ContentError, match="is not a manifest of a base"):
        pack(stream, out.write, PreloadRequest(requests(source, APP), PLATFORM), base_manifest=b"{}")
    assert out.getvalue() == b""


def test_the_manifest_of_another_base_is_found_out(tmp_path: Path, base: Path, source: OciLayoutSource) -> None:
    """It promises layers that are not there; what comes of it does not read back."""
    with FileDevice(base) as device:
        known = drypoint.base_manifest(device, "resin-data", b"docker")
    table = PartitionTable.MBR if b'"partition": 6' in known else PartitionTable.GPT
    empty = build_disk_image(tmp_path / "empty.img", table=table, sizes=SIZES).path
    with empty.open("rb") as file:
        archive = packed(read_stream(file, None), tmp_path / "a.etch", requests(source, APP), base_manifest=known)
    with pytest.raises(drypoint.DrypointError, match=r"no such|does not read back"):
        injected(archive)
    assert not (tmp_path / "a.img").exists()


class Watched:
    """A source that notes what is asked of it."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self.given = 0

    def resolve(self, reference: Reference, platform: Platform) -> Image:
        return self._source.resolve(reference, platform)

    def open_layer(self, image: Image, layer: Layer) -> Iterator[bytes]:
        for chunk in self._source.open_layer(image, layer):
            self.given += len(chunk)
            yield chunk

    def close(self) -> None:
        return


def test_the_first_byte_leaves_before_the_first_layer_is_fetched(base: Path, source: OciLayoutSource) -> None:
    watched = Watched(source)
    given: list[int] = []
    pack(base, lambda _: given.append(watched.given), PreloadRequest(requests(watched, APP), PLATFORM))
    assert given[0] == 0
    assert watched.given > 0


def test_who_reads_slowly_slows_all_down(tmp_path: Path, base: Path) -> None:
    """Nothing is fetched far ahead of what has been taken."""
    layers = [build_layer(LayerBuilder().file("f", sample_content(f"{n}", 8 * MIB)).finish()) for n in range(6)]
    (tmp_path / "layout").mkdir()
    write_oci_layout(tmp_path / "layout", {APP: build_image(layers)})
    watched = Watched(OciLayoutSource(tmp_path / "layout"))
    before = threading.active_count()
    with pulled(lambda write: pack(base, write, PreloadRequest(requests(watched, APP), PLATFORM))) as chunks:
        first = next(chunks)
        assert b"manifest.json" in first[:512]
        threading.Event().wait(0.5)
        # Two layers on their way, each as far as the buffers between its stages go.
        assert watched.given < 40 * MIB
    assert threading.active_count() == before


def test_pulled_gives_what_is_written_and_raises_what_is_raised(base: Path, source: OciLayoutSource) -> None:
    out = io.BytesIO()
    pack(base, out.write, PreloadRequest(requests(source, APP), PLATFORM))
    with pulled(lambda write: pack(base, write, PreloadRequest(requests(source, APP), PLATFORM))) as chunks:
        assert b"".join(chunks) == out.getvalue()
    with pulled(lambda write: pack(Path("/nonexistent"), write, PreloadRequest([], PLATFORM))) as chunks:
        with pytest.raises(DiskImageError, match="cannot open /nonexistent"):
            next(chunks)


def test_a_layer_that_is_not_what_it_should_be_ends_it(base: Path, source: OciLayoutSource) -> None:
    class Lying(Watched):
        def open_layer(self, image: Image, layer: Layer) -> Iterator[bytes]:
            content = b"".join(super().open_layer(image, layer))
            yield content[:-9] + b"\x00" + content[-8:]

    out = io.BytesIO()
    with pytest.raises(ContentError):
        pack(base, out.write, PreloadRequest(requests(Lying(source), APP), PLATFORM))
    with pytest.raises(ContentError, match=r"ends early|cut off"):
        inject(io.BytesIO(out.getvalue()), io.BytesIO())
    assert issubclass(DigestMismatchError, ContentError)


@pytest.mark.parametrize("place", ["image", "member", "header", "checksum"])
def test_a_changed_byte_is_found(tmp_path: Path, base: Path, source: OciLayoutSource, place: str) -> None:
    content = bytearray(packed(base, tmp_path / "a.etch", requests(source, OTHER)).read_bytes())
    image = base.stat().st_size
    position = {
        "image": image // 2,
        "member": content.index(b"sha256:", image + 4096) + 10,
        "header": content.index(b"inject/", image) + 110,
        "checksum": content.rindex(b"manifest.crc64") + 515,
    }[place]
    content[position] ^= 1
    (tmp_path / "a.etch").write_bytes(content)
    with pytest.raises(drypoint.DrypointError):
        injected(tmp_path / "a.etch", verify=False)
    assert not (tmp_path / "a.img").exists()


@pytest.mark.needs("strace")
def test_nothing_but_the_output_is_written(tmp_path: Path, base: Path, source: OciLayoutSource) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    write_oci_layout(layout, images())
    program = Path(sys.executable).with_name("drypoint")
    trace = tmp_path / "trace"
    traced = ["strace", "-f", "-o", str(trace), "-e", "trace=open,openat,creat,memfd_create,mkdir,mkdirat,rename"]
    options = ["-q", "-o", "-", "--image", f"oci:{layout}:{APP}", "--no-index"]
    done = subprocess.run(
        [*traced, str(program), "pack", str(base), *options], stdout=subprocess.PIPE, check=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert len(done.stdout) > base.stat().st_size
    made = [
        line
        for line in trace.read_text().splitlines()
        if any(
            word in line
            for word in ("O_CREAT", "O_TMPFILE", "O_WRONLY", "O_RDWR", "creat(", "mkdir", "rename(", "memfd")
        )
        and "/dev/" not in line
    ]
    assert made == []


def test_the_command_line(tmp_path: Path, base: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    write_oci_layout(layout, images())
    program = str(Path(sys.executable).with_name("drypoint"))
    image = ["--image", f"oci:{layout}:{APP}", "--no-index"]

    def run(command: str, *, fails: bool = False) -> str:
        done = subprocess.run(
            ["sh", "-c", f"set -e; {command}", program, *image],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr
        return done.stdout + done.stderr

    assert "1 image and 2 layers" in run(f'"$0" pack {base} -o a.etch "$@"')
    assert "its store is verified" in run('"$0" inject a.etch a.img')
    run(f'"$0" pack {base} -o - "$@" | "$0" inject - b.img -q && cmp a.img b.img')
    run('"$0" inject - - -q < a.etch | cmp - a.img')
    assert "it exists" in run('"$0" inject a.etch a.img', fails=True)
    assert "give --platform" in run(
        f'cat {base} | "$0" pack - --base-size {base.stat().st_size} -o c.etch "$@"', fails=True
    )
    assert "--base-size" in run(f'cat {base} | "$0" pack - --platform linux/amd64 -o c.etch "$@"', fails=True)
    said = run(f'"$0" pack - --platform linux/amd64 -o c.etch "$@" < {base}', fails=True)
    assert "--base-manifest FILE" in said
    assert not (tmp_path / "c.etch").exists()
    supervisor = f"--supervisor-image oci:{layout}:{SUPERVISOR} --supervisor-version v1.0.0"
    said = run(f'"$0" pack - --platform linux/amd64 -q -o c.etch "$@" {supervisor} < {base}')
    assert "warning: what disk.img holds is not known: the Supervisor is preloaded again" in said
    run('"$0" inject c.etch c.img && "$0" verify c.img')


def test_a_stream_that_is_not_as_long_as_it_should_be(base: Path, source: OciLayoutSource) -> None:
    known = requests(source, APP)
    for content, says in ((b"x" * 10, "ends 90 bytes before"), (b"x" * 110, "more than the 100 bytes")):
        with pytest.raises(ContentError, match=says):
            pack(BaseStream(iter((content,)), 100), lambda _: None, PreloadRequest(known, PLATFORM), unseen=True)


def test_memory_does_not_depend_on_the_size() -> None:
    """Ten times more to pack takes no more memory: measured in processes of their own."""
    script = (
        "import sys, tempfile, pathlib; sys.path.insert(0, 'benchmarks'); import pack\n"
        "with tempfile.TemporaryDirectory() as name: pack.pack_to_nowhere(pathlib.Path(name), int(sys.argv[1]))\n"
        "print(pack.peak_memory())"
    )
    root = ROOT
    peaks = [
        int(subprocess.run([sys.executable, "-c", script, str(size)], capture_output=True, check=True, cwd=root).stdout)
        for size in (64 * MIB, 640 * MIB)
    ]
    assert peaks[1] < peaks[0] + 32 * MIB
    assert peaks[1] < 200 * MIB


def test_an_apps_json_whose_image_is_not_there_is_found_at_the_end(
    tmp_path: Path, base: Path, source: OciLayoutSource
) -> None:
    """By inject and preload alike; what was wrong with the base already is not the archive's fault."""

    def apps_json(image: str) -> list[ExtraFile]:
        service = {"id": 1, "image_id": 1, "image": image, "environment": {}, "labels": {}, "composition": {}}
        release = {"id": 1, "services": {"main": service}, "volumes": {}, "networks": {}}
        app = {"id": 1, "name": "demo", "is_host": False, "class": "fleet", "releases": {"cafe": release}}
        return [ExtraFile(b"apps.json", json.dumps({"apps": {"beef": app}, "config": {}}).encode())]

    required_images, wanted = AppsJsonImages(), requests(source, OTHER)
    good = packed(base, tmp_path / "good.etch", wanted, files=apps_json(OTHER))
    injected(good, required_images=required_images)
    bad = packed(base, tmp_path / "bad.etch", wanted, files=apps_json("example.com/missing:1"))
    with pytest.raises(VerificationError, match=r"the store has no image of that name.*preload that image") as caught:
        injected(bad, required_images=required_images)
    assert "report" not in str(caught.value)
    broken = injected(bad)
    again = packed(broken, tmp_path / "again.etch", requests(source, APP))
    injected(again, required_images=required_images)
    with pytest.raises(VerificationError, match="the store has no image of that name"):
        preload(
            base,
            tmp_path / "out.img",
            PreloadRequest(wanted, PLATFORM, files=apps_json("example.com/missing:1"), required_images=required_images),
        )
