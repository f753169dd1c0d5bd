"""Damaged and absurd files: every one must end in a value or in one line that names it.

    python benchmarks/fuzz.py                  10,000 inputs of all kinds, in a few minutes
    python benchmarks/fuzz.py --kind nifti --count 500 --seed 3

Each input is a small valid file with some bytes, numbers or words replaced, seeded by its number.
Workers read them under a limit of memory; a crash, a hang of more than 10 s, more than 2 GB, or an
exception other than ValueError and OSError is a finding, and the exit status is then 1.
"""

import argparse
import collections
import contextlib
import gzip
import json
import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

SECONDS, BYTES = 10, 2 << 30
NUMBERS = (0, 1, -1, 2, 255, 32767, -32768, 2**31 - 1, -(2**31), 1e9, 1e30, np.inf, -np.inf, np.nan)
WORDS = (
    "0",
    "-1",
    "nan",
    "inf",
    "1e999",
    "9" * 400,
    "",
    "x",
    "[",
    '"',
    "\0",
    "é",
    "true",
    "1 2 3 4",
)


def nifti(rng: random.Random, folder: Path) -> tuple[Callable, Path]:
    """A NIfTI image or field with numbers of its header replaced, or with flipped bits."""
    from jaxreg.io import nifti as reader

    field = rng.random() < 0.3
    data = np.arange(5 * 4 * 3 * (3 if field else 1), dtype=rng.choice(["i2", "f4"]))
    image = nibabel.Nifti1Image(data.reshape((5, 4, 3, 1, 3) if field else (5, 4, 3)), np.eye(4))
    name = rng.choice(["", "NREG_TRANS", "Mapping", "x"])
    image.header.set_intent(rng.choice([1006, 1007]) if field else "none", name=name)
    image.header.set_slope_inter(rng.choice([1, 2.5]), rng.choice([0, -1024]))
    content = bytearray(image.to_bytes())
    for _ in range(rng.choice([1, 1, 2, 4])):
        name = rng.choice(list(image.header.keys()))
        dtype, offset = image.header.structarr.dtype.fields[name][:2]
        base = dtype.base if dtype.base.kind in "iuf" else np.dtype("u1")
        place = offset + rng.randrange(max(dtype.itemsize // base.itemsize, 1)) * base.itemsize
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = np.asarray(rng.choice(NUMBERS)).astype(base).tobytes()
        content[place : place + len(value)] = value
    content = flipped(rng, content) if rng.random() < 0.3 else bytes(content)
    name = rng.choice(["a.nii", "a.nii.gz"])
    if rng.random() < 0.5:
        content = gzip.compress(content, mtime=0)
        content = flipped(rng, content) if rng.random() < 0.5 else content
    (folder / name).write_bytes(content)
    return (reader.read_displacement if field else reader.read_volume), folder / name


def itk(rng: random.Random, folder: Path) -> tuple[Callable, Path]:
    """A MetaImage or NRRD file with words of its header replaced."""
    from jaxreg.io import images

    if rng.random() < 0.5:
        name, sign, lines = "a.mha", "=", META
    else:
        name, sign, lines = "a.nrrd", ":", NRRD
    header = [line.split(sign, 1) for line in lines.strip().splitlines()]
    for _ in range(rng.choice([1, 1, 2, 3])):
        line = rng.choice(header)
        parts = line[-1].split(" ")
        parts[rng.randrange(len(parts))] = rng.choice([*WORDS, str(rng.choice(NUMBERS))])
        line[-1] = " ".join(parts)
    if rng.random() < 0.2:
        del header[rng.randrange(len(header))]
    text = "\n".join(sign.join(line) for line in header) + ("\n" if sign == "=" else "\n\n")
    content = text.encode() + bytes(range(60)) * rng.choice([1, 1, 2, 6])
    (folder / name).write_bytes(flipped(rng, content) if rng.random() < 0.3 else content)
    read = rng.choice([images.read_image, images.read_grid, images.read_displacement])
    return read, folder / name


META = """
ObjectType = Image
NDims = 3
BinaryData = True
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementSpacing = 1 1 2
DimSize = 5 4 3
ElementNumberOfChannels = 1
ElementType = MET_UCHAR
ElementDataFile = LOCAL
"""
NRRD = """
NRRD0004
type: uint8
dimension: 3
space: left-posterior-superior
sizes: 5 4 3
space directions: (1,0,0) (0,1,0) (0,0,2)
encoding: raw
endian: little
byte skip: 0
space origin: (0,0,0)
"""


def dicom(rng: random.Random, folder: Path) -> tuple[Callable, Path]:
    """A DICOM series with elements removed or replaced, or with flipped bits."""
    from jaxreg.io import dicom_phases, images

    for number in range(3):
        dataset = dicom_slice(number)
        for _ in range(rng.choice([0, 1, 1, 2])):
            element = rng.choice(list(dataset))
            if rng.random() < 0.25:
                del dataset[element.tag]
            elif element.VR == "US":
                element.value = rng.choice([0, 1, 3, 65535])
            elif element.VR == "OW":
                element.value = bytes(rng.choice([0, 7]))
            else:  # past pydicom's checks of what is written
                element._value = rng.choice([*WORDS, "1\\2", "1\\0\\0\\0\\1", "1.5"])
        path = folder / f"{number}.dcm"
        with contextlib.suppress(Exception):  # what pydicom itself does not write
            dataset.save_as(path, enforce_file_format=True)
        if path.exists() and rng.random() < 0.3:
            path.write_bytes(flipped(rng, path.read_bytes()))
    readers = images.read_image, images.read_grid, images.read_date, dicom_phases.read_phases
    return rng.choice(readers), folder


def dicom_slice(number: int):
    """One of three slices, 5 x 4 voxels."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"1.2.{number}"
    dataset.Modality, dataset.SeriesInstanceUID, dataset.SeriesNumber = "CT", "1.2.3", 3
    dataset.SeriesDescription, dataset.StudyDate = f"T={number}0%", "20260102"
    dataset.TemporalPositionIndex, dataset.NumberOfFrames = number, 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.BitsStored = 4, 5, 16, 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.ImagePositionPatient, dataset.PixelSpacing = [1, 2, 3 * number], [1, 2]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelData = bytes(range(40))
    return dataset


def json_text(rng: random.Random, folder: Path) -> tuple[Callable, Path]:
    """A manifest or a dataset of Learn2Reg with values or characters replaced."""
    from jaxreg.datasets import learn2reg, manifest

    pair = {"id": "a", "fixed": "f_0001_0000.nii.gz", "moving": "f_0001_0001.nii.gz"}
    of_task = rng.random() < 0.5
    tree = {"name": "x", "registration_val": [pair]} if of_task else [pair]
    entry = rng.choice([pair, tree]) if of_task else pair
    key = rng.choice(list(entry))
    entry[key] = rng.choice(
        [3, None, 1e308, [], {}, [[]], "\ud800", "a" * 5000, "..", "a\0b", True]
    )
    text = json.dumps(tree)
    match rng.randrange(4):
        case 0:
            text = rng.choice(["[", '{"a":', "[{"]) * rng.choice([10, 1000, 200_000])
        case 1:
            text = text.replace(rng.choice('{}[],:"'), rng.choice(WORDS), 1)
        case 2:
            text = text.replace('"', "9" * 5000, 1)
    path = folder / "a.json"
    path.write_bytes(flipped(rng, text.encode()) if rng.random() < 0.3 else text.encode())
    return (learn2reg.read_dataset if of_task else manifest.read_manifest), path


def csv_text(rng: random.Random, folder: Path) -> tuple[Callable, Path]:
    """Landmarks with a value, a name or bytes replaced."""
    from jaxreg.io.points import read_landmarks

    rows = [["kind", *(f"{image}_{axis}" for image in ("fixed", "moving") for axis in "xyz")]]
    rows += [["vessel", *(f"{rng.uniform(-99, 99):.2f}" for _ in range(6))] for _ in range(4)]
    row = rng.choice(rows)
    row[rng.randrange(7)] = rng.choice([*WORDS, "a" * 200_000, '"a\n', str(rng.choice(NUMBERS))])
    text = "# space: RAS\n" + "\n".join(",".join(row) for row in rows)
    if rng.random() < 0.3:
        text = text.replace(rng.choice(text), rng.choice(WORDS), rng.choice([1, -1]))
    content = text.encode()
    (folder / "a.csv").write_bytes(flipped(rng, content) if rng.random() < 0.4 else content)
    return read_landmarks, folder / "a.csv"


def npz(rng: random.Random, folder: Path) -> tuple[Callable, Path]:
    """Weights with settings, shapes, types or bytes replaced."""
    import jax

    from jaxreg.config import NetworkConfig
    from jaxreg.network import weights
    from jaxreg.network.cascade import init_level

    path, config = folder / "a.npz", NetworkConfig(grid=(8, 8, 8), levels=1, widths=(2,), convs=1)
    weights.save_weights(path, {"level_1": init_level(jax.random.key(0), config)}, config)
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))
    part = rng.choice([header, header["network"]])
    name = rng.choice(list(arrays))
    match rng.randrange(4):
        case 0:
            part[rng.choice(list(part))] = rng.choice(
                [-1, 0, 3.5, 10**30, 10**6, "x", None, [], [4.5, 8], [10**9] * 3, {}, float("nan")]
            )
            arrays["header"] = np.array(json.dumps(header))
        case 1:
            arrays[name] = rng.choice(
                [np.zeros(3), np.array(["x"]), np.full(3, np.nan), np.zeros((0, 3)), np.array(1j)]
            )
        case 2:
            arrays["header"] = np.array(rng.choice(["[" * 100_000, "{}", "3", "x" * 100_000, ""]))
    np.savez(path, **arrays)
    if rng.random() < 0.3:
        with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr(rng.choice(["a.npy", "header.npy", "notes.txt"]), b"\x93NUMPY" * 9)
    if rng.random() < 0.5:
        path.write_bytes(flipped(rng, path.read_bytes()))
    return weights.load_weights, path


def checkpoints(rng: random.Random, folder: Path) -> tuple[Callable, Path]:
    """The folder of a checkpoint with files removed, cut or with flipped bits."""
    import jax
    import jax.numpy as jnp

    from jaxreg.training import checkpoint

    State = collections.namedtuple("State", "params step")
    state = State({"w": jnp.arange(4.0)}, jnp.array(3))
    with checkpoint.manager(folder, 1) as manager:
        checkpoint.save(manager, 3, state, checkpoint.Best(state.params, 1.0, 3), {"next": 1})
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in rng.sample(files, rng.choice([1, 1, 3, len(files)])):
        content = path.read_bytes()
        match rng.randrange(3):
            case 0:
                path.unlink()
            case 1:
                path.write_bytes(content[: rng.randrange(len(content) + 1)])
            case 2:
                path.write_bytes(flipped(rng, content))

    def read(path):
        template = jax.tree.map(jnp.zeros_like, state)
        with checkpoint.manager(path, 1) as manager:
            return checkpoint.restore_latest(manager, template)

    return read, folder


KINDS = {
    "nifti": (nifti, 3500),
    "itk": (itk, 2500),
    "dicom": (dicom, 1000),
    "json": (json_text, 1300),
    "csv": (csv_text, 1300),
    "npz": (npz, 300),
    "checkpoint": (checkpoints, 100),
}


def flipped(rng: random.Random, content: bytes | bytearray) -> bytes:
    """The bytes with up to eight bits flipped, and now and then a part cut out."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    if content and rng.random() < 0.2:
        start = rng.randrange(len(content))
        del content[start : start + rng.randrange(64)]
    return bytes(content)


def outcome(kind: str, number: int, seed: int) -> str | None:
    """Reads one input; returns what is wrong with the way it ended, or None."""
    rng = random.Random(f"{seed} {kind} {number}")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read, path = KINDS[kind][0](rng, Path(folder))
        signal.alarm(SECONDS)
        try:
            read(path)
        except (ValueError, OSError) as error:
            text = str(error)
            if Path(folder).name not in text:
                return f"the text does not name the file: {text[:200]}"
            if kind not in ("json",) and "\n" in text.strip():
                return f"more than one line: {text[:200]!r}"
        except (Exception, SystemExit, TooLong) as error:  # what the search is for
            return f"{type(error).__name__}: {str(error)[:200]}"
        finally:
            signal.alarm(0)
    return None


def work(kind: str, numbers: range, seed: int, findings) -> None:
    """Reads inputs in a process of its own; puts (number, text) of findings, None at last."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, too_long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome(kind, -1, seed)  # imports, which need address space of their own
    size = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (size + BYTES,) * 2)
    for number in numbers:
        findings.put((number, "begun"))
        wrong = outcome(kind, number, seed)
        if wrong:
            findings.put((number, wrong))
    findings.put(None)


class TooLong(BaseException):
    """A read takes too long; no reader catches this."""


def too_long(*_):
    """Ends such a read."""
    raise TooLong(f"more than {SECONDS} s")


def run(kind: str, count: int, seed: int) -> list[str]:
    """Findings among `count` inputs; a worker that crashes is replaced after its input."""
    context = multiprocessing.get_context("spawn")
    found, at = [], 0
    while at < count:
        findings = context.SimpleQueue()
        worker = context.Process(target=work, args=(kind, range(at, count), seed, findings))
        worker.start()
        last, done = at, False
        while not done and (worker.is_alive() or not findings.empty()):
            if findings.empty():
                worker.join(0.05)
                continue
            item = findings.get()
            done = item is None
            if item is not None and item[1] != "begun":
                found.append(f"{kind} {item[0]}: {item[1]}")
            last = last if item is None else item[0]
        worker.join()
        if not done:
            found.append(f"{kind} {last}: the process ended with status {worker.exitcode}")
        at = count if done else last + 1
    return found


def main() -> int:
    """Runs the search; returns 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, help="default: all")
    parser.add_argument("--count", type=int, help="inputs of each kind; default: 10,000 in all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = []
    for kind, (_, count) in KINDS.items():
        if options.kind in (None, kind):
            count = count if options.count is None else options.count
            new = run(kind, count, options.seed)
            print(f"{kind}: {count} inputs, {len(new)} findings", flush=True)
            print("".join(f"  {text}\n" for text in new[:20]), end="", flush=True)
            found += new
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
