"""What `/api/v1/me` is served with: keys from their files, stores with logins of their own."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.errors import TerminalError
from state.grants import vault
from state.grants.mint import Issuer
from state.grants.vault import Kek
from state.sealing import key_pairs
from state.store.connect import Access, Database
from state.store.copy_requests import CopyRequests
from state.store.owner import OwnerView
from state.store.vault import VaultStore
from supervisor.custody.copier import Copier
from supervisor.custody.key_folder import key_folder
from supervisor.custody.vaults import Custody
from supervisor.gateway.answers import query
from supervisor.gateway.contract import Deps
from supervisor.gateway.people.jwks import KeySet
from supervisor.gateway.people.jwt import Expected, Verifier
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.rate import Pacing
from supervisor.node.credentials import read_secret
from supervisor.node.settings import Settings, SettingsError

ISSUER_ROLE = "mana_issuer"


def opened_owners(settings: Settings, dsn: str) -> Owners | None:
    """Everything behind `/api/v1/me`, None without an auth service; raises SettingsError."""
    kek, issuer = read_kek(settings), read_issuer(settings)  # a wrong file stops the start
    if settings.auth_url is None:
        return None
    issuers = (*settings.jwt_issuers, settings.auth_url.rstrip("/"))
    return Owners(
        verifier=Verifier(KeySet(settings.auth_url), Expected(issuers, settings.jwt_audience)),
        view=OwnerView(Database(_access(settings, dsn, "mana_gateway"), max_connections=4)),
        pacing=Pacing(),
        custody=None if kek is None else Custody(_vaults(settings, dsn), kek),
        issuer=issuer,
        exposure=settings.llm_exposure,
    )


def opened_copier(settings: Settings, dsn: str, owners: Owners | None) -> Copier | None:
    """What makes copies for runs, None without vaults or issuers; raises SettingsError."""
    if owners is None or owners.custody is None:
        return None
    issuers = known_issuers(settings, owners.issuer)
    database = Database(_access(settings, dsn, "mana_gateway"), max_connections=2)
    return Copier(CopyRequests(database), owners.custody, issuers) if issuers else None


def known_issuers(settings: Settings, issuer: Issuer | None) -> dict[str, Ed25519PublicKey]:
    """Whose grants are genuine, by key id: our own, and those in the folder of keys."""
    keys = [_issuer_key(path) for path in key_folder(settings.keys_path).issuer_public]
    if issuer is not None and issuer.signing_key is not None:
        keys.append(issuer.signing_key.public_key())
    return {key_pairs.issuer_key_id(key): key for key in keys}


def _issuer_key(path: Path) -> Ed25519PublicKey:
    try:
        return key_pairs.issuer_public_key(read_secret("MANA_KEYS_DIR", path))
    except TerminalError as exc:
        raise SettingsError("MANA_KEYS_DIR", f"{path} {exc}") from None


def _vaults(settings: Settings, dsn: str) -> VaultStore:
    return VaultStore(Database(_access(settings, dsn, ISSUER_ROLE), max_connections=4))


def _access(settings: Settings, dsn: str, role: str) -> Access:
    return Access(dsn, role, str(Path(settings.secrets_dir, role)), "mana-gateway")


def read_kek(settings: Settings) -> Kek | None:
    """The KEK, None where none is named; raises SettingsError."""
    if settings.kek_file is None:
        return None
    try:
        return vault.read_kek(read_secret("MANA_AUTH_KEK_FILE", Path(settings.kek_file)))
    except TerminalError as exc:
        raise SettingsError("MANA_AUTH_KEK_FILE", f"the key {exc}") from None


def read_issuer(settings: Settings) -> Issuer | None:
    """Whose key grants are wrapped for and what signs them; None where we mint none."""
    public, signing = runner_public_file(settings), _signing_file(settings)
    if not settings.grant_issuer or public is None or signing is None:
        return None
    try:
        runner = key_pairs.runner_public_key(read_secret("MANA_AI_PUBLIC_KEY_FILE", public))
    except TerminalError as exc:
        raise SettingsError("MANA_AI_PUBLIC_KEY_FILE", f"{public} {exc}") from None
    try:
        text = read_secret("MANA_GRANT_SIGNING_KEY_FILE", signing)
        return Issuer(runner_key=runner, signing_key=key_pairs.issuer_private_key(text))
    except TerminalError as exc:
        raise SettingsError("MANA_GRANT_SIGNING_KEY_FILE", f"{signing} {exc}") from None


def runner_public_file(settings: Settings) -> Path | None:
    """The key to wrap for: the one named, else the newest of `mana keys`."""
    if settings.ai_public_key_file is not None:
        return Path(settings.ai_public_key_file)
    return next(iter(key_folder(settings.keys_path).runner_public), None)


def _signing_file(settings: Settings) -> Path | None:
    if settings.grant_signing_key_file is not None:
        return Path(settings.grant_signing_key_file)
    return next(iter(key_folder(settings.keys_path).issuer_private), None)


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


async def get_public_keys(request: Request, deps: Deps) -> Response:
    """For the auth service: the key to wrap for, and the one that checks our own grants."""
    query(request, ())
    return answer(public_keys(deps.settings))
