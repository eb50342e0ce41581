"""The `vitok` command."""

import sys

import tyro

from vitok import __version__
from vitok.cli import cluster, data, latents, studies, train_tokenizer, weights
from vitok.cli.doctor import doctor
from vitok.cli.evaluate import evaluate
from vitok.cli.info import info
from vitok.cli.sample import sample
from vitok.cli.train_dit import dit
from vitok.errors import exit_on_error


def main() -> None:
    """Serve the `vitok` command line; errors are one line."""
    if sys.argv[1:] == ["--version"]:
        print(f"vitok {__version__}")
        return
    networks = tyro.extras.SubcommandApp()
    networks.command(name="list")(weights.show)
    networks.command(name="fetch")(weights.fetch)
    networks.command(name="import")(weights.bring)
    networks.command(name="verify")(weights.verify)
    corpora = tyro.extras.SubcommandApp()
    corpora.command(name="ingest")(data.ingest)
    corpora.command(name="stats")(data.stats)
    corpora.command(name="preview")(data.preview)
    corpora.command(name="verify")(data.verify)
    training = tyro.extras.SubcommandApp()
    training.command(name="tokenizer")(train_tokenizer.tokenizer)
    training.command(name="dit")(dit)
    cached = tyro.extras.SubcommandApp()
    cached.command(name="build")(latents.build)
    catalogue = tyro.extras.SubcommandApp()
    catalogue.command(name="list")(studies.show)
    catalogue.command(name="status")(studies.status)
    catalogue.command(name="run")(studies.run)
    catalogue.command(name="new")(studies.new)
    clusters = tyro.extras.SubcommandApp()
    clusters.command(name="validate")(cluster.validate)
    clusters.command(name="estimate")(cluster.estimate)
    app = tyro.extras.SubcommandApp()
    app.command(catalogue, name="studies", help="Every figure and table of the paper, as a question with an answer; and your own.")
    app.command(info)
    app.command(networks, name="weights", help="The pretrained networks that metrics and losses use.")
    app.command(corpora, name="data", help="Corpora of images and videos: what is in them, and how to make them stream.")
    app.command(cached, name="latents", help="What generators are trained on, encoded once.")
    app.command(sample)
    app.command(name="eval")(evaluate)
    app.command(doctor)
    app.command(clusters, name="cluster", help="Files that describe clusters: whether they are right, and what they cost.")
    app.command(training, name="train", help="Single runs, with the recipes of the studies.")
    exit_on_error(lambda: app.cli(prog="vitok", description="Scaling studies of visual tokenizers. --version says which vitok this is."))
