"""The folder of keys: `<kind>-<date>-<id>.pem`, where a kind is runner, issuer or sign-in.

The first two are for grants, the third signs tokens of people who sign in here. Beside each private
key lies its public half, `….pub.pem`. The newest wraps and signs; all that are there open and
verify, so that what was given out before a rotation lives on. Where another service mints, only its
`issuer-….pub.pem` is here.
"""
# ruff: noqa: PLC0415 - `mana` answers at once where no key is made

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from state.sealing import key_pairs
from state.sealing.key_pairs import KeyUnusable
from state.secret_files import replace_secret, write_new_secret

Kind = Literal["runner", "issuer", "sign-in"]
KINDS: tuple[Kind, ...] = ("runner", "issuer", "sign-in")
RUNNER_BITS = 2048  # the original's size: a wrapped key is 344 characters of base64


class KeyFolder(msgspec.Struct, frozen=True):
    """The key files of an installation, newest first."""

    runner_private: tuple[Path, ...] = ()
    runner_public: tuple[Path, ...] = ()
    issuer_private: tuple[Path, ...] = ()
    issuer_public: tuple[Path, ...] = ()
    sign_in_private: tuple[Path, ...] = ()
    sign_in_public: tuple[Path, ...] = ()


def key_folder(folder: Path) -> KeyFolder:
    """What is there; a folder that is not there is empty."""
    return KeyFolder(
        runner_private=_private(folder, "runner"),
        runner_public=_newest(folder.glob("runner-*.pub.pem")),
        issuer_private=_private(folder, "issuer"),
        issuer_public=_newest(folder.glob("issuer-*.pub.pem")),
        sign_in_private=_private(folder, "sign-in"),
        sign_in_public=_newest(folder.glob("sign-in-*.pub.pem")),
    )


def add_key(folder: Path, kind: Kind, now: datetime) -> Path:
    """Make a key pair, private half of mode 0600; returns the public file."""
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    key = (
        rsa.generate_private_key(public_exponent=65537, key_size=RUNNER_BITS)
        if kind == "runner"
        else ed25519.Ed25519PrivateKey.generate()
    )
    private = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    public = key.public_key().public_bytes(
        forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo
    )
    name = f"{kind}-{now.astimezone(UTC):%Y%m%dT%H%M%S%f}-{hashlib.sha256(public).hexdigest()[:8]}"
    write_new_secret(folder / f"{name}.pem", private.decode())
    path = folder / f"{name}.pub.pem"
    replace_secret(path, public.decode())
    return path


def faults(found: KeyFolder) -> list[str]:
    """What is wrong with the files, one line each; nothing of what they hold."""
    said: list[str] = []
    if not found.runner_private:
        said.append("there is no runner key: mana keys new")
    if not found.issuer_public:
        said.append("there is no issuer's key: mana keys new, or put its .pub.pem here")
    for path in found.runner_private:
        said += _faults_of(path, key_pairs.runner_private_key, is_secret=True)
    for path in found.runner_public:
        said += _faults_of(path, key_pairs.runner_public_key, is_secret=False)
    for path in found.issuer_private + found.sign_in_private:
        said += _faults_of(path, key_pairs.issuer_private_key, is_secret=True)
    for path in found.issuer_public + found.sign_in_public:
        said += _faults_of(path, key_pairs.issuer_public_key, is_secret=False)
    return said


def _faults_of(path: Path, read: Callable[[str], object], *, is_secret: bool) -> list[str]:
    try:
        read(path.read_text("ascii"))
    except (OSError, UnicodeDecodeError) as exc:
        return [f"{path}: cannot be read ({type(exc).__name__})"]
    except KeyUnusable as exc:
        return [f"{path}: {exc.problem}"]
    is_open = is_secret and path.stat().st_mode & 0o077
    return [f"{path}: can be read by others: chmod 600"] if is_open else []


def _private(folder: Path, kind: Kind) -> tuple[Path, ...]:
    found = folder.glob(f"{kind}-*.pem")
    return _newest(path for path in found if not path.name.endswith(".pub.pem"))


def _newest(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(paths, key=lambda path: path.name, reverse=True))
