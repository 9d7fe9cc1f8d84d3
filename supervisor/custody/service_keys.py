"""The service's own keys, read from their files: what opens vaults, mints grants and checks them.

A file that is named and holds no such key raises SettingsError, which stops the start.
"""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from state.errors import TerminalError
from state.grants import vault
from state.grants.mint import Issuer
from state.grants.vault import Kek
from state.sealing import key_pairs
from supervisor.custody.key_folder import key_folder
from supervisor.node.credentials import read_secret
from supervisor.node.settings import Settings, SettingsError


def read_kek(settings: Settings) -> Kek | None:
    """The key that opens vaults, None where none is named; raises SettingsError."""
    if settings.kek_file is None:
        return None
    try:
        return vault.read_kek(read_secret("MANA_AUTH_KEK_FILE", Path(settings.kek_file)))
    except TerminalError as exc:
        raise SettingsError("MANA_AUTH_KEK_FILE", f"the key {exc}") from None


def read_issuer(settings: Settings) -> Issuer | None:
    """Whose key grants are wrapped for and what signs them; None where we mint none."""
    public, signing = runner_public_file(settings), settings.grant_signing_key_file
    if signing is None:
        signing = next(iter(key_folder(settings.keys_path).issuer_private), None)
    if not settings.grant_issuer or public is None or signing is None:
        return None
    try:
        runner = key_pairs.runner_public_key(read_secret("MANA_AI_PUBLIC_KEY_FILE", public))
    except TerminalError as exc:
        raise SettingsError("MANA_AI_PUBLIC_KEY_FILE", f"{public} {exc}") from None
    try:
        text = read_secret("MANA_GRANT_SIGNING_KEY_FILE", Path(signing))
        return Issuer(runner_key=runner, signing_key=key_pairs.issuer_private_key(text))
    except TerminalError as exc:
        raise SettingsError("MANA_GRANT_SIGNING_KEY_FILE", f"{signing} {exc}") from None


def runner_public_file(settings: Settings) -> Path | None:
    """The key to wrap for: the one named, else the newest of `mana keys`."""
    if settings.ai_public_key_file is not None:
        return Path(settings.ai_public_key_file)
    return next(iter(key_folder(settings.keys_path).runner_public), None)


def known_issuers(settings: Settings, issuer: Issuer | None) -> dict[str, Ed25519PublicKey]:
    """Whose grants are genuine, by key id: our own, and those in the folder of keys."""
    keys: list[Ed25519PublicKey] = []
    for path in key_folder(settings.keys_path).issuer_public:
        try:
            keys.append(key_pairs.issuer_public_key(read_secret("MANA_KEYS_DIR", path)))
        except TerminalError as exc:
            raise SettingsError("MANA_KEYS_DIR", f"{path} {exc}") from None
    if issuer is not None and issuer.signing_key is not None:
        keys.append(issuer.signing_key.public_key())
    return {key_pairs.issuer_key_id(key): key for key in keys}


def public_keys(settings: Settings) -> dict[str, str | None]:
    """What an auth service that mints grants itself needs of us; raises SettingsError."""
    issuer, file = read_issuer(settings), runner_public_file(settings)
    signing = None if issuer is None or issuer.signing_key is None else issuer.signing_key
    pem = None if file is None else read_secret("MANA_AI_PUBLIC_KEY_FILE", file)
    if signing is None:
        return {"publicKeyPem": pem, "issuerKeyId": None, "issuerPublicKeyPem": None}
    public = signing.public_key()
    spki = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    key_id = key_pairs.issuer_key_id(public)
    return {"publicKeyPem": pem, "issuerKeyId": key_id, "issuerPublicKeyPem": spki}
