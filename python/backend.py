# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Packs the package hadal as a wheel: all of it is Python, so that a build backend
# from elsewhere, which would have to be downloaded, is not needed.
"""A build backend as PEP 517 has it."""
import base64
import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent


def read_project():
    """The fields of [project] that are used here. Python 3.9 has no reader of TOML."""
    text = (SOURCE / "pyproject.toml").read_text()
    fields = dict(re.findall(r'^([a-z-]+) = "([^"]*)"$', text, re.MULTILINE))
    fields["dependencies"] = re.findall(r'"([^"]+)"', re.search(r"^dependencies = \[(.*)\]$", text, re.MULTILINE)[1])
    fields["license"] = re.search(r'^license = \{ text = "([^"]*)" \}$', text, re.MULTILINE)[1]
    return fields


def make_metadata(project):
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}",
             f"Summary: {project['description']}", f"License: {project['license']}",
             f"Requires-Python: {project['requires-python']}"]
    return "\n".join(lines + [f"Requires-Dist: {name}" for name in project["dependencies"]]) + "\n"


def package_files():
    return [path for path in sorted((HERE / "hadal").rglob("*")) if path.suffix in (".py", ".typed")]


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    project = read_project()
    info = f"{project['name']}-{project['version']}.dist-info"
    files = {str(path.relative_to(HERE)): path.read_bytes() for path in package_files()}
    files[f"{info}/METADATA"] = make_metadata(project).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: hadal\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = f"{project['name']}-{project['version']}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)  # Of 1980: the same bytes each time.
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return wheel


def build_sdist(sdist_directory, config_settings=None):
    project = read_project()
    base = f"{project['name']}-{project['version']}"
    with tarfile.open(Path(sdist_directory) / f"{base}.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for path in [SOURCE / "pyproject.toml", HERE / "backend.py", *package_files()]:
            archive.add(path, f"{base}/{path.relative_to(SOURCE)}")
        data = make_metadata(project).encode()
        entry = tarfile.TarInfo(f"{base}/PKG-INFO")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return f"{base}.tar.gz"
