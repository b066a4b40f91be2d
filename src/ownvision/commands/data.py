"""`ownvision data`: what is held about a person, to see and to take away."""

import typer

app = typer.Typer(help="Your data: see it, take it away", no_args_is_help=True)
