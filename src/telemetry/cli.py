"""The command line: every command reads the same settings and ends a failed start with one sentence and exit code 1."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import uvloop
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from telemetry import __version__
from telemetry.errors import ConfigurationError, TelemetryError
from telemetry.logs import configure_logging, is_json, log_end
from telemetry.settings import LoggingSettings, Settings, load_settings, parse_duration, settings_path

log = structlog.get_logger()

app = typer.Typer(
    name="telemetry",
    help="City sensor readings from MQTT, stored exactly once, answered as exact time windows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
database_app = typer.Typer(help="The tables: numbered migrations.", no_args_is_help=True)
config_app = typer.Typer(help="The settings that are in force.", no_args_is_help=True)
app.add_typer(database_app, name="db")
app.add_typer(config_app, name="config")


@dataclass
class _Given:
    """What was given before the command, and what kind of command it is.

    Attributes:
        service: its name in the log where it runs until told to stop; what comes of its end otherwise goes with it.
        logging: how it speaks; as by default until the settings are read.
    """

    config: Path | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    service: tuple[str, str] | None = None
    logging: LoggingSettings = field(default_factory=LoggingSettings)


_given = _Given()

_INGEST = "ingest", "Nothing more is acknowledged; what is not committed stays with the broker, or in the spool."
_API = "api", "No question is answered until it runs again."
_MAINTAIN = "maintain", "Partitions, roll-ups and retention stay as they are until it runs again."


def main() -> None:
    """Entry point; errors of ours become one sentence on standard error, all others a trace in the log; exit code 1."""
    try:
        app()
    except TelemetryError as error:
        _tell(error)
        sys.exit(1)
    except Exception:
        if not structlog.is_configured():
            configure_logging(LoggingSettings())
        log.critical("crashed", detail="A fault of the program; please report it with its trace.", exc_info=True)
        sys.exit(1)


def _tell(error: TelemetryError) -> None:
    """Says what has ended the command; of a service whose log is JSON, in a line of that log."""
    if _given.service is not None and is_json(_given.logging):
        configure_logging(_given.logging)  # the settings may have been what was wrong
        log_end(*_given.service, error)
    else:
        Console(stderr=True, highlight=False).print(str(error), style="red", markup=False, soft_wrap=True)


def _seconds(text: str) -> timedelta:
    """A duration flag: `90`, `90s`, `5m`."""
    try:
        duration = timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        try:
            duration = parse_duration(text)
        except (ValueError, OverflowError) as error:
            raise typer.BadParameter(f"{text!r}: {error}, or a number of seconds") from None
    return duration


Duration = Annotated[timedelta | None, typer.Option(parser=_seconds, metavar="DURATION", help="60, 90s, 5m, 2h")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _before(
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings file (or TELEMETRY_CONFIG)"),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One setting, e.g. --set mqtt.port=1884")
    ] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end")
    ] = False,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    if parent is not None:
        from telemetry.ingest.children import die_with

        die_with(parent)
    _given.config = config
    _given.overrides = dict(_override(text) for text in overrides or [])


def _override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r}: write NAME=VALUE, e.g. mqtt.port=1884", param_hint="--set")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise typer.BadParameter(f"the value of {name} is not YAML; quote it", param_hint="--set") from None


def _settings(**flags: Any) -> Settings:
    given = {name.replace("__", "."): value for name, value in flags.items() if value is not None}
    settings = load_settings(_given.config, {**_given.overrides, **given})
    _given.logging = settings.logging
    configure_logging(settings.logging)
    return settings


def _run(service: Callable[[asyncio.Event], Coroutine[Any, Any, Any]]) -> None:
    """Runs a service until SIGTERM or SIGINT tells it to stop."""

    async def until_told() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await service(stop)

    uvloop.run(until_told())


@app.command()
def demo(
    duration: Duration = None,
    devices: Annotated[int, typer.Option(help="Size of the simulated city")] = 2_000,
    rate: Annotated[float, typer.Option(help="Live messages per second, of all devices together")] = 200.0,
    data_dir: Annotated[Path, typer.Option(help="Database, broker and logs; kept")] = Path("telemetry-demo"),
    api_port: Annotated[int, typer.Option(help="Port of the HTTP service")] = 8000,
    mqtt_port: Annotated[int, typer.Option(help="Port of Mosquitto")] = 1883,
    json_status: Annotated[bool, typer.Option(help="One JSON object a second on standard output")] = False,
) -> None:
    """Run everything embedded: database, broker, simulated city, ingest, HTTP."""
    try:
        from telemetry.demo.options import DemoOptions
        from telemetry.demo.run import run
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the demo needs {error.name}, which is not installed; install urban-telemetry[demo], or run `make setup`"
        ) from error
    options = DemoOptions(
        duration=duration,
        devices=devices,
        rate=rate,
        data_dir=data_dir,
        api_port=api_port,
        mqtt_port=mqtt_port,
        json_status=json_status,
    )
    raise typer.Exit(run(options))


@app.command()
def ingest(
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that share the messages out (ingest.workers); see ingest.share for how"),
    ] = None,
) -> None:
    """Take readings in from the broker until told to stop.

    With several workers this process supervises them: it starts again what dies, passes SIGTERM on, and shows the
    metrics of all. Their number may change from one start to the next: sessions at the broker that are used no more are
    emptied by themselves.
    """
    from telemetry.ingest import service, supervisor

    _given.service = _INGEST
    settings = _settings(ingest__workers=workers)
    service.collect_garbage_rarely()
    if settings.ingest.workers > 1:
        config = ["--config", str(_given.config)] if _given.config is not None else []
        arguments = [*config, "ingest-worker", "--workers", str(settings.ingest.workers)]
        # Not as arguments: everybody on the machine can read those, and there may be a password among them.
        overrides = yaml.safe_dump(_given.overrides).encode()
        _run(lambda stop: supervisor.run(settings, arguments, overrides, stop))
    else:
        _run(lambda stop: service.run(settings, stop))


@app.command(hidden=True)
def ingest_worker(
    number: Annotated[int, typer.Option(help="Which of the workers it is, from 1")],
    workers: Annotated[int, typer.Option(help="How many there are")],
    report_to: Annotated[int, typer.Option(help="File descriptor of the supervisor's pipe")],
) -> None:
    """One of the processes of `ingest --workers N`, which starts it and writes the overrides to its standard input."""
    from telemetry.ingest import service

    _given.service = _INGEST
    _given.overrides = yaml.safe_load(sys.stdin.buffer)
    settings = _settings(ingest__workers=workers)
    service.collect_garbage_rarely()
    pipe = Connection(report_to)
    _run(lambda stop: service.run(settings, stop, number, pipe))


@app.command()
def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on (api.host)")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (api.port)")] = None,
) -> None:
    """Answer questions over HTTP until told to stop."""
    from telemetry.api import server

    _given.service = _API
    uvloop.run(server.run(_settings(api__host=host, api__port=port)))


@app.command()
def maintain(
    once: Annotated[bool, typer.Option("--once", help="One round, then end")] = False,
) -> None:
    """Keep the database in order: partitions ahead, roll-ups after late data, retention."""
    from telemetry.upkeep import rounds

    _given.service = None if once else _MAINTAIN
    settings = _settings()
    if once:
        done = uvloop.run(rounds.run_once(settings))
        typer.echo("\n".join(f"{name}: {value}" for name, value in vars(done).items()))
    else:
        _run(lambda stop: rounds.run(settings, stop))


@app.command()
def simulate(
    devices: Annotated[int, typer.Option(help="Size of the city", min=1)] = 2_000,
    rate: Annotated[float, typer.Option(help="Live messages per second; 0 ends after the backfill", min=0)] = 200.0,
    seed: Annotated[int | None, typer.Option(help="Another seed is another city")] = None,
    backfill: Annotated[
        timedelta | None, typer.Option(parser=_seconds, metavar="DURATION", help="Publish this much of the past first")
    ] = None,
    duration: Duration = None,
) -> None:
    """Publish a simulated city to the broker of the settings."""
    try:
        from telemetry.simulate import city, publisher
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the simulator needs {error.name}, which is not installed; install urban-telemetry[simulate]"
        ) from error
    settings = _settings()
    _run(
        lambda stop: publisher.run(
            settings,
            devices=devices,
            rate=rate,
            seed=city.SEED if seed is None else seed,
            backfill=backfill or timedelta(0),
            duration=duration,
            stop=stop,
        )
    )


@app.command("import")
def import_devices(
    file: Annotated[Path, typer.Argument(help="CSV: id,domain,name,zone,latitude,longitude,interval")],
) -> None:
    """Register the devices of a CSV file; good rows are kept, every bad one is named with its line."""
    from telemetry.domains import load_domains
    from telemetry.store import device_list
    from telemetry.store.pool import connection

    settings = _settings()
    domains = load_domains(settings.domains.directories)

    async def bring_in() -> device_list.Imported:
        async with connection(settings, "import") as database:
            with Progress(console=Console(stderr=True)) as progress:
                task = progress.add_task(f"Reading {file.name}", total=file.stat().st_size if file.exists() else None)
                return await device_list.import_devices(
                    database, file, domains, lambda read: progress.update(task, completed=read)
                )

    done = uvloop.run(bring_in())
    for row in done.refused:
        typer.echo(f"{file}:{row.line}: {row.fault}", err=True)
    typer.echo(f"{done.added:,} devices added, {done.known:,} updated, {len(done.refused):,} rows refused")
    if done.refused:
        raise typer.Exit(1)


@database_app.command()
def migrate() -> None:
    """Bring the tables to the state of the files."""
    from telemetry.store import migrate as migrations

    settings = _settings()
    applied = uvloop.run(migrations.migrate(settings))
    for remark in migrations.remarks(settings):
        typer.echo(remark, err=True)
    typer.echo("\n".join(f"applied {version}" for version in applied) or "nothing to do")


@database_app.command()
def status() -> None:
    """Show every migration and whether it landed."""
    from telemetry.store import migrate as migrations

    engine, states = uvloop.run(migrations.status(_settings()))
    table = Table("migration", "state", "applied at", title=f"engine: {engine or 'not decided yet'}", box=None)
    for each in states:
        table.add_row(each.version, each.state, each.applied_at or "")
    Console().print(table)


@database_app.command("check")
def check_database() -> None:
    """Compare the database with the files and the models; exit code 1 when they differ."""
    from telemetry.store import migrate as migrations

    settings = _settings()
    problems = uvloop.run(migrations.check(settings))
    for each in [*migrations.remarks(settings), *problems]:
        typer.echo(each, err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo("the database is as the migrations and the domains say")


@config_app.command()
def show() -> None:
    """Show the settings in force as YAML; secrets are hidden."""
    typer.echo(yaml.safe_dump(_settings().model_dump(mode="json"), sort_keys=False, allow_unicode=True), nl=False)


@config_app.command("check")
def check_config() -> None:
    """Check the settings without touching broker or database; every fault is named."""
    from telemetry.domains import load_domains
    from telemetry.ingest.shares import shares
    from telemetry.ingest.spool import check_directory

    settings = _settings()
    domains = load_domains(settings.domains.directories)
    if settings.spool.directory is not None:
        check_directory(settings.spool.directory)
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(settings.mqtt.tls, name)
        if path is not None and not path.is_file():
            raise ConfigurationError(f"mqtt.tls.{name}: there is no file {path}")
    shares(settings, list(domains))
    source = settings_path(_given.config)
    typer.echo(f"the settings are good ({source or 'no file, defaults'}); domains: {', '.join(domains)}")
