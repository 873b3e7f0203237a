"""Words that many commands take, each with one meaning and one help text."""

from __future__ import annotations

from typing import Annotated

import typer

SiteName = Annotated[str, typer.Argument(help="Name of the site.")]
InstanceName = Annotated[str, typer.Argument(help="Name of the instance.")]
Why = Annotated[str, typer.Option("--why", help="The reason; kept in the record.")]
