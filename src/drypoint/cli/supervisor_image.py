"""``drypoint supervisor-image``: prints the image of a version of the Supervisor."""

from __future__ import annotations

from pathlib import Path

import click

from .. import CloudServer, SupervisorRequest, supervisor_image, supervisor_request
from . import render
from .cloud_options import server_options
from .network_options import NetworkInputs, network_options
from .option_group import Command, option_group

_EXAMPLES = """\b
Examples:
  drypoint supervisor-image --version v16.1.10 --arch aarch64
  drypoint supervisor-image --from in
  drypoint preload base.img -o out.img --supervisor-image "$(drypoint supervisor-image --from in)"
"""


def _request_options(function: Command) -> Command:
    options = [
        click.option("--version", metavar="VERSION", help="The Supervisor's version, for example v16.1.10."),
        click.option("--arch", metavar="ARCH", help="The device's processor: aarch64, amd64, armv7hf, i386 or rpi."),
        click.option(
            "--from", "directory", type=click.Path(path_type=Path), metavar="DIR",
            help="Take both from DIR: the version from the file VERSION, the processor from device-type.json.",
        ),
    ]  # fmt: skip
    return option_group(function, "request", supervisor_request, options)


@click.command("supervisor-image", epilog=_EXAMPLES)
@_request_options
@server_options
@network_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@render.output_options
def command(
    request: SupervisorRequest, server: CloudServer, network: NetworkInputs, as_json: bool, verbosity: render.Verbosity
) -> None:
    """Print the name of the Supervisor's image, from balena's API, as the build of balenaOS does.

    The name is for --supervisor-image of preload. No login is needed on balenaCloud.
    """
    with render.progress(quiet=verbosity.quiet or as_json) as progress:
        image = supervisor_image(request, server, network.options(), progress=progress)
    if as_json:
        render.json({"image": str(image), "version": request.version, "arch": request.arch})
    else:
        render.line(str(image))
