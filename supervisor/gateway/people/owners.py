"""What `/api/v1/me` is served with: who a caller is, what they may see, the keys kept for them."""

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import msgspec

from mana_actors.crash import crash_points
from state.grants.grant import Trust
from state.grants.mint import Issuer
from state.rules.exposure import Exposure
from state.runs.reasons import Language
from state.store.connect import Access, Database
from state.store.gateway.control import Cancelled
from state.store.gateway.copy_requests import CopyRequests
from state.store.gateway.openings import OpeningStore
from state.store.gateway.own_log import OwnLog
from state.store.gateway.proposals import ProposalStore
from state.store.gateway.sync_feeds import SyncFeeds
from state.store.issuer import VaultStore
from state.store.own.glance import OwnGlance
from state.store.own.records import OwnRecords
from state.store.own.runs import OwnRuns
from state.store.owner import OwnerView
from state.store.people.store import PeopleStore
from state.store.people.visitors import VisitorStore
from supervisor.custody.copier import Copier
from supervisor.custody.service_keys import known_issuers, read_issuer, read_kek
from supervisor.custody.sign_in_keys import SignInKeys
from supervisor.custody.vaults import Custody
from supervisor.gateway.people.inbox.shelf import CatalogueShelf
from supervisor.gateway.people.open_streams import OpenStreams
from supervisor.gateway.people.rate import Pacing
from supervisor.gateway.people.tokens import Expected, KeySet, Verifier
from supervisor.gateway.sign_in.browsers import Browsers, cookie_of
from supervisor.gateway.sign_in.door import AuthServiceDoor, Door, OwnDoor
from supervisor.gateway.sign_in.office import SignInOffice
from supervisor.gateway.sync.hub import SyncHub
from supervisor.gateway.sync.outside import SyncOutside, opened_outside
from supervisor.gateway.sync.shares import PushShares, ShareLimits
from supervisor.node.credentials import read_service_key
from supervisor.node.settings import Settings

ISSUER_ROLE = "mana_issuer"
GATEWAY_ROLE = "mana_gateway"


EndRun = Callable[[str, str, UUID | None], Awaitable[Cancelled | None]]
"""Ends the run that a person's mission has under way, or the one that is named."""


class Owners(msgspec.Struct, frozen=True, kw_only=True):
    """Everything people's requests need; no custody means no vaults, no issuer no grants."""

    door: Door
    browsers: Browsers
    view: OwnerView
    runs: OwnRuns
    glance: OwnGlance
    records: OwnRecords
    own_log: OwnLog
    sync: SyncFeeds
    sync_hub: SyncHub
    sync_outside: SyncOutside
    sync_ahead_s: float = 300.0  # how far stamps may be ahead
    pacing: Pacing
    streams: OpenStreams
    proposals: ProposalStore
    shares: PushShares
    custody: Custody | None = None
    issuer: Issuer | None = None
    trust: Trust = Trust()  # whose grants the key holder takes; it has the private keys
    openings: OpeningStore
    exposure: Exposure = "any"  # the most that any prompt here may use
    time_zone: str = "UTC"  # of people who set none
    language: Language = "en"  # where a request accepts none that there are words in
    end_run: EndRun | None = None  # None: in a process beside the gateway
    office: SignInOffice | None = None  # None: the auth service of the deployment signs people in

    async def close(self) -> None:
        """Close the connections."""
        await self.view.close()
        await self.own_log.close()
        await self.proposals.close()
        await self.sync.database.close()
        if self.custody is not None:
            await self.custody.close()
        await self.browsers.store.close()


def opened_owners(settings: Settings, dsn: str, *, has_pages: bool = True) -> Owners:
    """Keys from their files, stores with logins of their own.

    People sign in at the deployment's auth service, and here where there is none. Without pages no
    service key is needed: nobody knows what a cookie would be called. Raises SettingsError for a
    wrong key file, also where nothing would use it.
    """
    kek, issuer = read_kek(settings), read_issuer(settings)
    key = read_service_key(settings) if has_pages else secrets.token_hex()
    office, cookie = None, cookie_of(key)
    if settings.auth_url is None:
        people = PeopleStore(_database(settings, dsn, GATEWAY_ROLE, 4))
        keys = SignInKeys(settings.keys_path)
        office = SignInOffice(
            people,
            keys,
            audience=settings.jwt_audience,
            pacing=Pacing(),
        )
        browsers = Browsers(people, cookie, settings.names)
        door: Door = OwnDoor(people, keys, browsers, audience=office.audience)
    else:
        issuers = (*settings.jwt_issuers, settings.auth_url.rstrip("/"))
        expected = Expected(issuers, settings.jwt_audience)
        visitors = VisitorStore(_database(settings, dsn, GATEWAY_ROLE, 2))
        browsers = Browsers(visitors, cookie, settings.names)
        door = AuthServiceDoor(Verifier(KeySet(settings.auth_url), expected), browsers)
    own = _database(settings, dsn, GATEWAY_ROLE, 4)
    crash = crash_points(settings.agent.crash_at)
    feeds = SyncFeeds(_database(settings, dsn, GATEWAY_ROLE, 6), crash)
    records = OwnRecords(own)
    limits = ShareLimits(
        rows_a_minute=settings.sync_rows_per_minute,
        bytes_a_minute=settings.sync_mb_per_minute * 1_000_000,
        records=settings.sync_records_max,
        bytes=settings.sync_mb_max * 1_000_000,
    )
    return Owners(
        door=door,
        browsers=browsers,
        office=office,
        view=OwnerView(own),
        openings=OpeningStore(own),
        runs=OwnRuns(own),
        glance=OwnGlance(own),
        records=records,
        shares=PushShares(limits, records.kept),
        own_log=OwnLog(own),
        sync=feeds,
        sync_hub=SyncHub(feeds),
        sync_outside=opened_outside(settings),
        sync_ahead_s=settings.sync_ahead_s,
        pacing=Pacing(),
        streams=OpenStreams(),
        proposals=ProposalStore(_database(settings, dsn, GATEWAY_ROLE, 4), CatalogueShelf(), crash),
        custody=None
        if kek is None
        else Custody(VaultStore(_database(settings, dsn, ISSUER_ROLE, 4)), kek),
        issuer=issuer,
        trust=Trust(issuers=known_issuers(settings, issuer), accept_v1=settings.accept_v1_grants),
        exposure=settings.agent.exposure,
        time_zone=settings.agent.time_zone,
        language=settings.agent.language,
    )


def opened_copier(settings: Settings, dsn: str, owners: Owners) -> Copier | None:
    """What makes copies for runs, None without vaults or issuers; raises SettingsError."""
    if owners.custody is None:
        return None
    issuers = known_issuers(settings, owners.issuer)
    requests = CopyRequests(_database(settings, dsn, GATEWAY_ROLE, 2))
    return Copier(requests, owners.custody, issuers) if issuers else None


def _database(settings: Settings, dsn: str, role: str, most: int) -> Database:
    """Connections of one login; none is opened before it is needed."""
    access = Access(dsn, role, str(Path(settings.secrets_dir, role)), "mana-gateway")
    return Database(access, max_connections=most)
