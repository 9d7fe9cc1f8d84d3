"""What a worker of Ray's was started with, and whether that is what was tried. Pure."""

from __future__ import annotations

ARGUMENTS = (
    "--node-ip-address",
    "--node-manager-port",
    "--object-store-name",
    "--raylet-name",
    "--redis-address",
    "--metrics-agent-port",
    "--logging-rotate-bytes",
    "--logging-rotate-backup-count",
    "--runtime-env-agent-port",
    "--gcs-address",
    "--session-name",
    "--temp-dir",
    "--webui",
    "--cluster-id",
    "--worker-id",
    "--worker-launch-time-ms",
    "--node-id",
    "--runtime-env-hash",
)
"""What Ray 2.60.0 gives a worker that has no environment of its own; with others none was tried."""

PROGRAM = 2  # the interpreter and Ray's script come before the arguments
OWN_ARGUMENTS = ("--worker-id", "--worker-launch-time-ms")
OWN_VARIABLES = ("RAY_JOB_ID",)
"""In these a worker may differ from the first of its node: they are read after the fork."""


class StartRequest:
    """How the kernel started a worker: the whole command, its environment, its folder."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: str) -> None:
        self.command, self.environment, self.folder = command, environment, folder

    @property
    def is_of_a_kind_tried(self) -> bool:
        """Whether it is a plain worker of the one Ray whose workers were forked before."""
        names = tuple(argument.partition("=")[0] for argument in self.command[PROGRAM:])
        return names == ARGUMENTS and self.command[-1] == "--runtime-env-hash=0"

    def is_like(self, first: StartRequest) -> bool:
        """Whether what the first one of this node read while it imported holds for this one too."""
        return self.is_of_a_kind_tried and self._shared() == first._shared()

    def _shared(self) -> tuple[list[str], dict[str, str], str]:
        command = [a for a in self.command if a.partition("=")[0] not in OWN_ARGUMENTS]
        environment = {k: v for k, v in self.environment.items() if k not in OWN_VARIABLES}
        return command, environment, self.folder

    def to_wire(self) -> bytes:
        """Texts between NULs, which none of them can hold."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        texts = [str(len(self.command)), *self.command, self.folder, *variables]
        return "\0".join(texts).encode("utf-8", "surrogateescape")

    @classmethod
    def from_wire(cls, raw: bytes) -> StartRequest:
        """What `to_wire` wrote; raises ValueError for anything else."""
        count, *texts = raw.decode("utf-8", "surrogateescape").split("\0")
        length = int(count)
        if not 0 < length < len(texts):
            raise ValueError(length)
        variables = [text.partition("=") for text in texts[length + 1 :]]
        return cls(texts[:length], {name: value for name, _, value in variables}, texts[length])
